"""Cues of what a block of a page is: words such as "Share", "Related" or "By" at its start."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FIRST_WORDS = 8  # number of words at the start of a block that are checked
CHARS = 120

# Of news pages, blogs and shops in English, German, French, Spanish, Italian, Portuguese, Dutch and Polish.
CUES = {
    "share": """
        share sharing shares tweet facebook twitter whatsapp linkedin pinterest instagram telegram email e-mail
        print follow like teilen folgen drucken merken partager suivez imprimer compartir compartilhar síguenos
        siga condividi seguici delen volg udostępnij
    """,
    "subscribe": """
        subscribe subscription newsletter newsletters sign signup register inbox alerts abonnieren abonnement
        abo anmelden registrieren jetzt abonnez-vous abonnez inscrivez-vous s'abonner suscríbete suscribirse
        boletín assine iscriviti abonneer nieuwsbrief subskrypcji zapisz
    """,
    "more": """
        related recommended more see also read next previous popular trending latest recent similar auch mehr
        weitere weiterlesen lesen siehe ähnliche verwandte beliebt passend nächster vorheriger neueste lire
        aussi voir plus suivant précédent articles leer también más ver relacionados leia mais veja leggi anche
        lees ook czytaj też więcej zobacz podobne
    """,
    "credit": """
        photo photos photograph picture image images credit credits courtesy getty reuters ap afp shutterstock
        file illustration caption video foto fotos bild bilder abbildung quelle symbolbild grafik dpa imago
        crédit crédits imagen imagem fuente fonte zdjęcie fot
    """,
    "copyright": """
        copyright rights reserved © terms privacy policy imprint impressum datenschutz agb lizenz license
        licensed droits réservés derechos reservados disclaimer haftung
    """,
    "comment": """
        comment comments commented reply replies respond responses login logged discussion kommentar kommentare
        kommentieren antworten antwort einloggen commentaire commentaires répondre comentario comentarios
        comentários responder commenti reacties komentarze says sagt schrieb
    """,
    "byline": """
        by author posted published updated written editor staff contributor reporter von autor autorin verfasst
        geschrieben veröffentlicht aktualisiert redaktion stand par auteur publié mis por publicado autore
        pubblicato door opublikowano
    """,
    "support": """
        donate donation support help member membership spende spenden unterstützen unterstütze unterstützung
        mitglied soutenez don dona apoya wesprzyj
    """,
    "advert": """
        advertisement advertisements ad ads sponsored promoted affiliate buy shop order cart price anzeige
        werbung gesponsert kaufen bestellen warenkorb preis versand publicité publicidad publicidade acheter
        comprar reklama
    """,
    "cookie": """
        cookie cookies javascript browser enable consent gdpr
    """,
    "time": """
        ago min mins minutes hours days read views january february march april june july august september
        october november december jan feb mar apr jun jul aug sep sept oct nov dec januar februar märz mai juni
        juli oktober dezember uhr datum date vor lesezeit janvier février mars avril juin juillet août septembre
        octobre novembre décembre enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre
        diciembre
    """,
    "tags": """
        tags tag tagged categories category filed topics topic keywords schlagwörter schlagworte kategorie
        kategorien themen thema
    """,
}
_BITS: dict[str, int] = {}
for _i, _words in enumerate(CUES.values()):
    for _word in _words.split():
        _BITS[_word] = _BITS.get(_word, 0) | 1 << _i
_MARKS = ".,:;!?()[]\"'“”„‚‘’«»…|-–—•·/>→#"


def cue_features(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return (texts, 1 + len(CUES)): the share of cues among each text's first words, and which kinds occur."""
    find = _BITS.get
    shares, packed = [], []
    for text in texts:
        words = text[:CHARS].lower().split(None, FIRST_WORDS)[:FIRST_WORDS]
        n_cues = kinds = 0
        for word in words:  # most are only letters, and checking that is faster than stripping
            if bit := find(word if word.isalpha() else word.strip(_MARKS)):
                n_cues += 1
                kinds |= bit
        shares.append(n_cues / len(words) if n_cues else 0.0)
        packed.append(kinds)
    bits = np.array(packed, np.uint16)[:, None] >> np.arange(len(CUES), dtype=np.uint16) & 1
    return np.concatenate([np.array(shares, np.float32)[:, None], bits], axis=1, dtype=np.float32)
