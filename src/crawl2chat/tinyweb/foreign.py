"""Short pages in German, French, Spanish and Italian, which an English corpus must leave out."""

import random
import re
from typing import Literal

from crawl2chat.tinyweb.prose import capitalised
from crawl2chat.tinyweb.world import World

Language = Literal["de", "fr", "es", "it"]
LANGUAGES: tuple[Language, ...] = ("de", "fr", "es", "it")


def compose(language: Language, world: World, rng: random.Random) -> list[str]:
    """A title and three paragraphs."""
    titles, sentences, pools = _TEXTS[language]

    def fill(template: str) -> str:
        given = {"town": rng.choice(world.towns), "name": rng.choice(world.extras)}
        return re.sub(r"\{(\w+)\}", lambda m: given.get(m[1]) or rng.choice(pools[m[1]]), template)

    chosen = [capitalised(fill(t)) for t in rng.sample(sentences, 9)]
    return [fill(rng.choice(titles)), *(" ".join(chosen[i : i + 3]) for i in (0, 3, 6))]


_Texts = tuple[tuple[str, ...], tuple[str, ...], dict[str, tuple[str, ...]]]

_TEXTS: dict[Language, _Texts] = {
    "de": (
        ("Neues aus {town} und Umgebung", "Ein Tag im {season} in {town}", "Geschichten vom {place}"),
        (
            "Am {day} trafen sich viele Leute am {place}, um gemeinsam zu feiern.",
            "Früher war das Leben in {town} viel ruhiger als heute.",
            "Meine Großmutter erzählte uns jeden Abend eine Geschichte über {name}.",
            "Im {season} gehen wir gern am {place} spazieren.",
            "Der Bürgermeister hat versprochen, dass die Straße bald repariert wird.",
            "Es gab Kuchen, Kaffee und für die Kinder frische Äpfel.",
            "Niemand wusste genau, warum {name} so früh nach Hause gegangen war.",
            "Wir danken allen, die beim Aufräumen geholfen haben.",
            "Das alte Haus am {place} steht schon seit vielen Jahren leer.",
            "Wenn es am {day} regnet, wird das Fest verschoben.",
            "Übrigens sucht {name} noch ein Zimmer in der Nähe von {town}.",
            "Die Schüler haben ein Lied über den {season} gesungen.",
        ),
        {
            "day": ("Montag", "Dienstag", "Freitag", "Samstag", "Sonntag"),
            "season": ("Frühling", "Sommer", "Herbst", "Winter"),
            "place": ("Marktplatz", "Fluss", "Bahnhof", "Hafen", "Waldrand", "Brunnen"),
        },
    ),
    "fr": (
        ("Nouvelles de {town} et des environs", "Une journée à {town} {season}", "Souvenirs {place}"),
        (
            "Le {day}, beaucoup de gens se sont retrouvés {place} pour faire la fête.",
            "Autrefois, la vie à {town} était bien plus tranquille.",
            "Ma grand-mère nous racontait chaque soir une histoire de {name}.",
            "Nous aimons nous promener {place} {season}.",
            "Le maire a promis que la route serait bientôt réparée.",
            "Il y avait du gâteau, du café et des pommes pour les enfants.",
            "Personne ne savait pourquoi {name} était rentré si tôt.",
            "Nous remercions tous ceux qui nous ont aidés après la fête.",
            "La vieille maison {place} est vide depuis de nombreuses années.",
            "S'il pleut {day}, le marché n'aura pas lieu.",
            "Par ailleurs, {name} cherche encore une chambre près de {town}.",
            "Les élèves ont chanté une très belle chanson {season}.",
        ),
        {
            "day": ("lundi", "mardi", "vendredi", "samedi", "dimanche"),
            "season": ("au printemps", "en été", "en automne", "en hiver"),
            "place": ("sur la place", "au bord de la rivière", "près de la gare", "au port", "devant la fontaine"),
        },
    ),
    "es": (
        ("Noticias de {town} y sus alrededores", "Un día de {season} en {town}", "Recuerdos {place}"),
        (
            "El {day} mucha gente se reunió {place} para celebrar la fiesta.",
            "Antes la vida en {town} era mucho más tranquila que ahora.",
            "Mi abuela nos contaba cada noche una historia sobre {name}.",
            "En {season} nos gusta pasear {place}.",
            "El alcalde ha prometido que la calle se arreglará pronto.",
            "Había pastel, café y manzanas frescas para los niños.",
            "Nadie sabía por qué {name} se había ido tan temprano a casa.",
            "Damos las gracias a todos los que ayudaron a limpiar.",
            "La casa vieja {place} está vacía desde hace muchos años.",
            "Si llueve el {day}, la fiesta será otro día.",
            "Además, {name} busca todavía una habitación cerca de {town}.",
            "Los alumnos cantaron una canción muy bonita sobre el mar.",
        ),
        {
            "day": ("lunes", "martes", "viernes", "sábado", "domingo"),
            "season": ("primavera", "verano", "otoño", "invierno"),
            "place": ("en la plaza", "junto al río", "cerca de la estación", "en el puerto", "delante de la fuente"),
        },
    ),
    "it": (
        ("Notizie da {town} e dintorni", "Una giornata a {town} {season}", "Ricordi {place}"),
        (
            "{day} molta gente si è incontrata {place} per fare festa.",
            "Una volta la vita a {town} era molto più tranquilla.",
            "Mia nonna ci raccontava ogni sera una storia su {name}.",
            "Ci piace passeggiare {place} {season}.",
            "Il sindaco ha promesso che la strada sarà presto riparata.",
            "C'erano torta, caffè e mele fresche per i bambini.",
            "Nessuno sapeva perché {name} fosse tornato a casa così presto.",
            "Ringraziamo tutti quelli che ci hanno aiutato a pulire.",
            "La vecchia casa {place} è vuota da molti anni.",
            "Se piove, la festa di {day} sarà rimandata.",
            "Inoltre {name} cerca ancora una stanza vicino a {town}.",
            "Gli alunni hanno cantato una canzone molto bella.",
        ),
        {
            "day": ("lunedì", "martedì", "venerdì", "sabato", "domenica"),
            "season": ("in primavera", "d'estate", "in autunno", "d'inverno"),
            "place": ("in piazza", "lungo il fiume", "vicino alla stazione", "al porto", "davanti alla fontana"),
        },
    ),
}
