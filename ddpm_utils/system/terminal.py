"""Output for any encoding: what the terminal's code page lacks is spelled out, so that no `print` can fail."""

import codecs
import io
import sys
import unicodedata

ERRORS = "spelled"
"""The name of the error handler `spell` for `str.encode`, once `spell_out` has run."""
SPELLED = {
    "−": "-", "–": "-", "—": "-", "‑": "-", "…": "...", "±": "+-", "×": "x", "·": "*", "÷": "/", "→": "->", "←": "<-",
    "↔": "<->", "⇒": "=>", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "∼": "~", "∞": "inf", "√": "sqrt", "∑": "sum",
    "∫": "int", "∂": "d", "∇": "grad", "∈": "in", "‖": "||", "∥": "||", "“": '"', "”": '"', "„": '"',
    "«": '"', "»": '"', "‘": "'", "’": "'", "‚": "'", "•": "*", "✓": "ok", "✗": "x", "ß": "ss", "ø": "o", "Ø": "O",
    "æ": "ae", "Æ": "AE", "ł": "l", "Ł": "L", "ϵ": "epsilon", "ϑ": "theta", "ϕ": "phi", "━": "-", "─": "-", "│": "|",
    "⁄": "/", "λ": "lambda", "Λ": "Lambda",  # Unicode calls them lamda
}  # fmt: skip
MARKS = {"<super>": "^", "<sub>": "_"}  # x² → x^2, α₀ → alpha_0


def spell_out() -> None:
    """Let stdout and stderr spell out what their encoding lacks: β becomes beta, − becomes -, ² becomes ^2."""
    codecs.register_error(ERRORS, spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a program without a terminal may have none
            stream.reconfigure(errors=ERRORS)


def spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for the characters that cannot be encoded, and where encoding goes on.

    Raises:
        UnicodeError: the given one, if it is not about encoding.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, place = error.object[error.start], error.start + 1
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name, as the operating system gave it
        return bytes([ord(character) - 0xDC00]), place
    return ascii_of(character), place


def ascii_of(character: str) -> str:
    """Return a character in ASCII: "β" → "beta", "ü" → "u", "²" → "^2"; "?" if there is no way to write it."""
    if character in SPELLED:
        return SPELLED[character]
    kind, *_ = unicodedata.decomposition(character).split() or [""]
    parts = unicodedata.normalize("NFKD", character)
    if parts != character:
        kept = [part for part in parts if not unicodedata.combining(part)]
        return MARKS.get(kind, "") + "".join(part if part.isascii() else ascii_of(part) for part in kept)
    if unicodedata.combining(character):
        return ""
    words = unicodedata.name(character, "").split()
    if words[:1] == ["GREEK"] and "LETTER" in words:
        letter = next((word for word in words[words.index("LETTER") + 1 :] if word != "FINAL"), "?")
        return letter.lower() if "SMALL" in words else letter.capitalize()
    return "?"
