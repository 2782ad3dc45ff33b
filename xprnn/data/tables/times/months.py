"""Names of months, in the languages of Western Europe, in dates."""

import re
from collections.abc import Sequence

_MONTHS = {
    # English, German, French, Spanish, Italian, Portuguese, Dutch: the letters that tell months
    # apart, after accents are taken off.
    1: ("jan", "ene", "gen"),
    2: ("feb", "fev", "fevr"),
    3: ("mar", "mrz", "maerz", "marz", "mrt", "maart", "mars"),
    4: ("apr", "avr", "abr"),
    5: ("may", "mai", "mag", "mei", "mayo", "maio"),
    6: ("jun", "juin", "giu"),
    7: ("jul", "juil", "lug"),
    8: ("aug", "aou", "ago"),
    9: ("sep", "set"),
    10: ("oct", "okt", "ott", "out"),
    11: ("nov",),
    12: ("dec", "dez", "dic"),
}
_MONTH_OF = {name: k for k, names in _MONTHS.items() for name in names}
ENGLISH = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FULL = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
_PLAIN = str.maketrans("àáâäãçèéêëìíîïñòóôöõùúûü", "aaaaaceeeeiiiinooooouuuu")
_WEEKDAY = re.compile(
    r"^(mon|tue|wed|thu|fri|sat|sun|mo|di|mi|do|fr|sa|so|lun|mar|mer|jeu|ven|sam|dim)[a-z]*[.,]?\s+",
    re.IGNORECASE,
)


def english(text: str) -> str:
    """Return a date with the English name of its month, without that of the day of the week."""
    text = _without_weekday(text.strip())
    if "年" in text or "년" in text:
        text = re.sub(r"[年月년월]\s*(?=\d)", "-", text)
        text = re.sub(r"[年月日년월일]\s*", " ", text).strip()
    return re.sub(r"[^\W\d_]{3,}\.?", lambda found: _english_month(found[0]), text)


def _without_weekday(text: str) -> str:
    """Return a date without the day of the week; "mar" is March, too, and so needs a date after."""
    rest = _WEEKDAY.sub("", text)
    numbers = re.findall(r"\d+", rest.partition(":")[0])
    named = any(month_of(word) for word in re.findall(r"[^\W\d_]{3,}", rest))
    return rest if named or len(numbers) >= 3 else text


def _english_month(word: str) -> str:
    number = month_of(word)
    return word if number is None else ENGLISH[number - 1]


def month_of(word: str) -> int | None:
    """Return the number of the month that a word names; None if it names none."""
    plain = word.rstrip(".").lower().translate(_PLAIN)
    for length in (5, 4, 3):
        found = _MONTH_OF.get(plain[:length])
        if found is not None:
            return found
    return None


def months_in(text: str) -> list[str]:
    """Return the words of a date that name a month."""
    words = re.findall(r"[^\W\d_]{3,}\.?", _without_weekday(text))
    return [word for word in words if month_of(word) is not None]


def months_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all months as they are written; empty if they are not all there."""
    names: dict[int, str] = {}
    for text in texts[:400]:
        for word in months_in(text):
            names.setdefault(month_of(word) or 0, word)
    return tuple(names[k] for k in range(1, 13)) if len(names) == 12 else ()
