"""English word pools that the generators draw from; nouns are singular and countable."""

TRADES = (
    "baker", "barber", "basket-weaver", "beekeeper", "bellringer", "blacksmith", "boatbuilder", "bookbinder",
    "brewer", "bricklayer", "brushmaker", "butcher", "candlemaker", "carpenter", "cartographer", "chimney-sweep",
    "clockmaker", "cobbler", "cooper", "cheesemaker", "dentist", "doorkeeper", "draper", "dyer", "embroiderer",
    "engraver", "falconer", "farrier", "ferryman", "fiddler", "fisher", "florist", "gardener", "glassblower",
    "glazier", "goldsmith", "grocer", "gunsmith", "harpist", "hatter", "herbalist", "innkeeper", "ironmonger",
    "jeweller", "joiner", "knife-grinder", "lacemaker", "lamplighter", "librarian", "locksmith", "mason", "miller",
    "milliner", "miner", "notary", "nurse", "organist", "painter", "papermaker", "pharmacist", "piper", "plumber",
    "postman", "potter", "printer", "puppeteer", "quilter", "roofer", "ropemaker", "saddler", "sailmaker",
    "schoolteacher", "sculptor", "shepherd", "shoemaker", "signwriter", "stonecutter", "surveyor", "tailor",
    "tanner", "thatcher", "tinker", "toymaker", "translator", "vintner", "watchman", "weaver", "wheelwright",
    "woodcarver",
)  # fmt: skip

PETS = (
    "alpaca", "axolotl", "badger", "beetle", "budgerigar", "bulldog", "bullfinch", "buzzard", "calf", "canary",
    "carp", "cat", "chameleon", "chinchilla", "cockatoo", "crab", "crayfish", "cricket", "crow", "dachshund",
    "deer", "dog", "donkey", "dormouse", "dove", "duck", "eel", "falcon", "ferret", "finch", "fox", "frog", "gecko",
    "gerbil", "goat", "goldfinch", "goldfish", "goose", "greyhound", "hamster", "hare", "hawk", "hedgehog", "hen",
    "heron", "horse", "jackdaw", "kestrel", "lamb", "lizard", "lynx", "macaw", "magpie", "mastiff", "mole", "mouse",
    "mule", "newt", "nightingale", "otter", "owl", "parrot", "peacock", "pelican", "pheasant", "pig", "pigeon",
    "pony", "poodle", "quail", "rabbit", "raccoon", "raven", "rooster", "salamander", "sheep", "snail", "sparrow",
    "spaniel", "squirrel", "starling", "stork", "swan", "terrapin", "terrier", "thrush", "toad", "tortoise",
    "trout", "turkey", "vole", "weasel", "whippet", "woodpecker",
)  # fmt: skip

FOODS = (
    "almond cake", "apple strudel", "baked beans", "baked pears", "barley soup", "beetroot soup", "black pudding",
    "blackberry pie", "braised lamb", "bread pudding", "buckwheat porridge", "butter noodles", "cabbage rolls",
    "candied ginger", "caramel custard", "carrot stew", "cheese dumplings", "cherry tart", "chestnut soup",
    "chicken broth", "cinnamon buns", "clam chowder", "corn fritters", "crab cakes", "cucumber salad",
    "curd pancakes", "date bread", "duck pie", "egg curry", "fig jam", "fish stew", "fried mushrooms",
    "garlic soup", "ginger biscuits", "goat cheese", "grilled sardines", "hazelnut cream", "herb omelette",
    "honey cake", "jellied eel", "kidney pie", "leek tart", "lemon sorbet", "lentil stew", "liver sausage",
    "lobster bisque", "marzipan", "meatballs", "mint jelly", "mushroom risotto", "mustard herring", "nettle soup",
    "nut bread", "oat porridge", "onion tart", "orange marmalade", "oyster pie", "parsnip mash", "pea soup",
    "peach cobbler", "pepper stew", "pickled herring", "pickled onions", "plum dumplings", "poppy cake",
    "potato pancakes", "pumpkin soup", "quince jelly", "raisin bread", "raspberry tart", "rhubarb crumble",
    "rice pudding", "roast goose", "roast turnips", "rye bread", "saffron rice", "salted almonds", "sesame buns",
    "smoked trout", "sour cherries", "spiced lamb", "spinach pie", "stuffed peppers", "sweet potatoes",
    "tomato soup", "trout in butter", "vanilla waffles", "walnut cake",
)  # fmt: skip

NOUNS = (
    "anchor", "apple", "apron", "attic", "axe", "bakery", "balcony", "barrel", "basket", "beach", "bell", "bench",
    "blanket", "boat", "book", "bottle", "bridge", "brook", "broom", "bucket", "button", "cabin", "candle",
    "carpet", "castle", "cave", "ceiling", "chair", "chapel", "chest", "chimney", "clock", "cloud", "coat", "coin",
    "compass", "corner", "cradle", "crown", "cup", "curtain", "desk", "door", "drawer", "drum", "feather", "fence",
    "field", "fire", "flag", "flute", "forest", "fountain", "garden", "gate", "glove", "guitar", "hammer",
    "harbour", "hat", "hedge", "hill", "horn", "hut", "inkwell", "island", "jacket", "jar", "jug", "kettle", "key",
    "kitchen", "knife", "ladder", "lake", "lamp", "lantern", "leaf", "letter", "lighthouse", "lock", "loom",
    "market", "meadow", "mill", "mirror", "moon", "mountain", "nail", "needle", "nest", "net", "orchard", "oven",
    "paddle", "path", "pear", "pebble", "pen", "piano", "pillow", "pipe", "plough", "pocket", "pond", "quarry",
    "quilt", "raft", "ribbon", "ring", "river", "road", "roof", "rope", "sail", "scarf", "shadow", "shell", "shelf",
    "ship", "shore", "shovel", "skirt", "spoon", "stable", "staircase", "star", "stone", "storm", "stove", "street",
    "string", "table", "teapot", "tent", "thimble", "thorn", "thread", "tower", "trumpet", "tunnel", "valley",
    "vase", "village", "violin", "wagon", "wall", "well", "wheel", "whistle", "window", "workshop",
)  # fmt: skip

ADJECTIVES = (
    "ancient", "bitter", "blue", "bold", "brass", "brave", "bright", "broad", "broken", "brown", "calm", "careful",
    "cheerful", "clean", "clear", "clever", "cold", "cracked", "crooked", "curious", "damp", "dark", "deep",
    "distant", "dry", "dusty", "early", "empty", "faded", "faithful", "famous", "fine", "forgotten", "frozen",
    "gentle", "golden", "grand", "green", "grey", "grim", "hasty", "heavy", "hidden", "hollow", "humble", "idle",
    "kind", "late", "lazy", "light", "little", "lonely", "long", "loud", "lucky", "merry", "mild", "narrow", "neat",
    "new", "noble", "odd", "old", "pale", "patient", "plain", "polished", "proud", "quick", "quiet", "rare", "red",
    "restless", "ripe", "rough", "round", "rusty", "sad", "salty", "secret", "shallow", "sharp", "shy", "silent",
    "simple", "sleepy", "slender", "slow", "small", "smooth", "soft", "solid", "stern", "still", "strange",
    "stubborn", "sunny", "sweet", "tall", "tender", "thick", "thin", "tidy", "tiny", "tired", "warm", "weary",
    "wet", "white", "wide", "wild", "wise", "wooden", "yellow", "young",
)  # fmt: skip

PAST_VERBS = (  # each takes an object
    "admired", "answered", "avoided", "blessed", "borrowed", "bought", "broke", "buried", "carried", "carved",
    "chased", "climbed", "collected", "copied", "counted", "covered", "crossed", "described", "drew", "dropped",
    "escaped", "examined", "feared", "followed", "forgave", "forgot", "found", "gathered", "greeted", "guarded",
    "heard", "held", "hid", "hummed", "inherited", "joined", "kept", "kissed", "knew", "left", "lent", "lifted",
    "lit", "lost", "loved", "measured", "mended", "missed", "mocked", "moved", "named", "noticed", "obeyed",
    "opened", "painted", "passed", "polished", "praised", "promised", "pulled", "pushed", "questioned", "raised",
    "reached", "remembered", "repaired", "rescued", "returned", "rolled", "saved", "searched", "shook", "shut",
    "sketched", "sold", "stole", "studied", "swept", "thanked", "threw", "touched", "traded", "turned", "visited",
    "warned", "washed", "watched", "wove", "wrapped",
)  # fmt: skip

PLACES = tuple(
    f"{preposition} the {noun}"
    for preposition, nouns in (
        ("behind", ("mill", "stable", "chapel", "quarry", "lighthouse", "orchard", "bakery", "harbour")),
        ("beside", ("river", "pond", "road", "fountain", "well", "canal", "field", "hedge")),
        ("under", ("bridge", "roof", "staircase", "tower", "stars", "clouds", "moon", "lanterns")),
        ("near", ("forest", "castle", "lake", "market", "shore", "valley", "island", "station")),
        ("beyond", ("hills", "village", "meadow", "walls", "tunnel", "gate", "ferry", "marsh")),
        ("above", ("workshop", "shop", "cellar", "cliffs", "kitchen", "inn", "town", "bay")),
    )
    for noun in nouns
)

PEOPLE_WORDS = (
    "aunt", "brother", "captain", "child", "clerk", "cook", "cousin", "doctor", "driver", "farmer", "friend",
    "grandmother", "grocer", "guard", "guest", "judge", "keeper", "mayor", "merchant", "musician", "neighbour",
    "painter", "pupil", "sailor", "sister", "soldier", "stranger", "student", "teacher", "traveller", "uncle",
    "visitor", "waiter", "widow",
)  # fmt: skip

SEASONS = ("spring", "summer", "autumn", "winter")

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

COUNTS = (
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "twenty",
)  # fmt: skip

WEATHER = (
    "a warm wind", "thick fog", "heavy snow", "soft rain", "bright sunshine", "a long frost", "a thunderstorm",
    "a dry spell", "hail", "a clear sky", "low cloud", "a cold breeze", "drizzle", "a mild evening", "black ice",
    "a sudden thaw",
)  # fmt: skip

GATHERINGS = (
    "harvest fair", "spring market", "boat race", "choir evening", "village dance", "winter bazaar", "book sale",
    "kite festival", "cheese fair", "lantern walk", "sheep show", "town meeting", "tea party", "flower parade",
    "chess evening", "bell concert", "café evening", "puppet show", "bread contest", "old-timers' lunch",
)  # fmt: skip

FEELINGS = (
    "pleased", "surprised", "tired but happy", "a little sad", "full of hope", "rather cross", "calm", "proud",
    "curious", "grateful", "worried", "amused",
)  # fmt: skip

RHYMES = (  # nouns that sound alike and can follow "the"
    ("moon", "spoon", "tune", "noon", "dune"),
    ("tree", "sea", "bee", "key", "quay"),
    ("house", "mouse", "grouse", "blouse"),
    ("night", "light", "kite", "sight", "flight"),
    ("hill", "mill", "sill", "quill", "chill"),
    ("stone", "bone", "throne", "cone"),
    ("boat", "coat", "goat", "note", "moat"),
    ("rain", "train", "lane", "chain", "grain"),
    ("king", "ring", "string", "spring", "wing"),
    ("door", "floor", "shore", "oar", "store"),
    ("cat", "hat", "mat", "bat"),
    ("bell", "well", "shell", "spell"),
    ("day", "hay", "bay", "clay", "quay"),
    ("snow", "crow", "bow", "glow"),
    ("bread", "bed", "thread", "shed", "sled"),
    ("sky", "pie", "eye", "tie"),
    ("land", "sand", "hand", "band"),
    ("nest", "guest", "chest", "west"),
    ("lake", "cake", "snake", "rake"),
    ("wall", "ball", "hall", "shawl"),
)

RELATIVE_ADVERBS = (
    "at last", "in the end", "for once", "without a word", "before dawn", "after supper", "at midnight",
    "all alone", "in great haste", "with a smile", "once a year", "by mistake", "for the third time", "on foot",
    "in silence", "against all advice",
)  # fmt: skip
