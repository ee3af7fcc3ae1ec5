"""The text of a manifest out of its bytes: which encoding it is in, and which encodings are refused.

Owns byte order marks, and how Windows-1252 is recognised among single-byte and Asian encodings. A statistical detector
needs more text than a few names: charset-normalizer 3.5.2 reads 8 of the 35 western names of the tests. Leaves rows to
``manifest_text``. Pure.
"""

import codecs
import re

LINE_END = re.compile(r"\r\n|\r|\n")
"""Other separators of lines may be part of a name."""
_BOMS = (  # UTF-32's begins as UTF-16's does
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LETTERS_BEYOND_ASCII = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")

_RUN = re.compile("[^\x00-\x7f]{3,}")
_LETTER = "[ŠŒŽšœžŸÀ-ÖØ-öø-ÿ]"
_OPENING = "[„‚‘“’”‹›«»¡¿–—€\xa0]"
_CLOSING = "[’”“‘»«›‹…™€\xa0]"
_WESTERN = re.compile(
    f"{_OPENING}{{0,3}}{_LETTER}{{0,2}}{_CLOSING}{{0,4}}"
    f"|{_LETTER}[–—]{_LETTER}"
    "|([•·…–—¿¡£€])\\1+"
    "|[äöÄÖ]{3,4}"  # Finnish yöääni
    r"|(?!.*(.).*\2)[äöüßåæøÄÖÜẞÅÆØ]{3,7}"  # alphabets, in names of tests
    r"|(?=.*[þðÞÐ])(?!.*(.)\3)[áéíóúýþæöðÁÉÍÓÚÝÞÆÖÐ]{3,4}"  # Icelandic þýðing, góðæri, friðþæging
)
"""Successive characters beyond ASCII in names of Western Europe: a few letters, between quotes and dashes."""
_NEVER_TYPED = re.compile("[ˆ˜¨¯¸¤]")
"""Accents without a letter, and the sign of no currency: letters of other encodings."""
_KANA = re.compile("(?:ƒ[@-~€-–]|‚[Ÿ-ñ]){2}".encode("cp1252"))
"""Two successive letters of a Japanese syllabary in Shift JIS, whose second byte may be an ASCII letter."""


class UnreadableText(Exception):
    """Bytes that are no text: the line, and one sentence."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


def decoded(content: bytes, *, legacy: bool) -> str:
    """The text, without its byte order mark. ``legacy``: what is no UTF-8 may be Windows-1252.

    Raises:
        UnreadableText: it is in no encoding that is read.
    """
    encoding, text = _encoding_of(content)
    if encoding.startswith("utf-16") and len(text) % 2:
        text = text.removesuffix(b"\x1a")  # DOS's end of the file, of one byte
    try:
        return text.decode(encoding)
    except UnicodeDecodeError as error:
        # A text that has letters in UTF-8 is a damaged one, not another encoding whose names would all be wrong.
        if legacy and encoding == "utf-8" and text is content and not _LETTERS_BEYOND_ASCII.search(content):
            return _windows_text(content)
        line = len(LINE_END.findall(text[: error.start].decode(encoding, "replace"))) + 1
        name = encoding.upper().removesuffix("-LE").removesuffix("-BE")
        advice = "export it as CSV (UTF-8)" if legacy else "save it as UTF-8"
        raise UnreadableText(line, f"not {name} text: {advice}") from None


def _windows_text(content: bytes) -> str:
    try:
        text = content.decode("cp1252")
        foreign = _place_of_another_encoding(content, text)
    except UnicodeDecodeError as error:
        foreign = error.start
    if foreign is None:
        return text
    line = len(LINE_END.findall(content[:foreign].decode("latin-1"))) + 1
    raise UnreadableText(line, "neither UTF-8 nor Windows-1252 text: export it as CSV (UTF-8)")


def _place_of_another_encoding(content: bytes, text: str) -> int | None:
    """Where ``text`` (``content`` as Windows-1252) has what only another encoding explains."""
    places = [run.start() for run in _RUN.finditer(text) if not _WESTERN.fullmatch(run[0])]
    places += [found.start() for found in (_NEVER_TYPED.search(text), _KANA.search(content)) if found]
    return min(places, default=None)


def _encoding_of(content: bytes) -> tuple[str, bytes]:
    """The encoding by the byte order mark, or by the zeros of its first letter; and what follows the mark."""
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return encoding, content[len(mark) :]
    if content[:1] != b"\0" and content[1:2] == b"\0":
        return "utf-16-le", content
    if content[:1] == b"\0" and content[1:2] not in {b"", b"\0"}:
        return "utf-16-be", content
    return "utf-8", content
