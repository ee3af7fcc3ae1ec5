"""Languages as files and people name them, made comparable: ISO 639-1, and 639-2 in both of its forms.

Files say ``ger``, ``deu``, ``de`` or ``de-AT`` for one language (https://www.loc.gov/standards/iso639-2). Those that
can be asked for are Whisper's.
"""

import itertools
import re

_CODES = """
    af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id is
    it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si sk sl
    sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh
"""
SPOKEN = tuple(_CODES.split())
"""The codes of the languages that multilingual Whisper models know."""

_REGION = "([-_][A-Za-z0-9]{2,8})*"
_WRITTEN = re.compile(f"[A-Za-z]{{2,3}}{_REGION}")


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in text.split())


_TWO_TO_THREE = _pairs("""
    aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak be:bel bg:bul bh:bih
    bi:bis bm:bam bn:ben bo:bod br:bre bs:bos ca:cat ce:che ch:cha co:cos cr:cre cs:ces cu:chu cv:chv cy:cym da:dan
    de:deu dv:div dz:dzo ee:ewe el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas ff:ful fi:fin fj:fij fo:fao fr:fra
    fy:fry ga:gle gd:gla gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat hu:hun hy:hye hz:her
    ia:ina id:ind ie:ile ig:ibo ii:iii ik:ipk io:ido is:isl it:ita iu:iku ja:jpn jv:jav ka:kat kg:kon ki:kik kj:kua
    kk:kaz kl:kal km:khm kn:kan ko:kor kr:kau ks:kas ku:kur kv:kom kw:cor ky:kir la:lat lb:ltz lg:lug li:lim ln:lin
    lo:lao lt:lit lu:lub lv:lav mg:mlg mh:mah mi:mri mk:mkd ml:mal mn:mon mr:mar ms:msa mt:mlt my:mya na:nau nb:nob
    nd:nde ne:nep ng:ndo nl:nld nn:nno no:nor nr:nbl nv:nav ny:nya oc:oci oj:oji om:orm or:ori os:oss pa:pan pi:pli
    pl:pol ps:pus pt:por qu:que rm:roh rn:run ro:ron ru:rus rw:kin sa:san sc:srd sd:snd se:sme sg:sag si:sin sk:slk
    sl:slv sm:smo sn:sna so:som sq:sqi sr:srp ss:ssw st:sot su:sun sv:swe sw:swa ta:tam te:tel tg:tgk th:tha ti:tir
    tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi ty:tah ug:uig uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol
    wa:wln wo:wol xh:xho yi:yid yo:yor za:zha zh:zho zu:zul
    in:ind iw:heb ji:yid jw:jav mo:ron sh:hbs
""")
"""ISO 639-1 to 639-2/T; the last row holds codes that were withdrawn or that Whisper still uses."""

_SAME = _pairs("""
    alb:sqi arm:hye baq:eus bur:mya chi:zho cze:ces dut:nld fre:fra geo:kat ger:deu gre:ell ice:isl mac:mkd mao:mri
    may:msa per:fas rum:ron scc:srp scr:hrv slo:slk tib:bod wel:cym
    cmn:zho fil:tgl nob:nor nno:nor zsm:msa pes:fas swh:swa ekk:est lvs:lav arb:ara mol:ron
""")
"""639-2/B to 639-2/T, then the members of macrolanguages that speech models do not distinguish."""

_UNKNOWN = frozenset({"", "und", "unk", "mis", "mul", "zxx"})


def language_key(code: str | None) -> str | None:
    """What codes of the same language have in common; None where a code names no language."""
    primary = primary_code(code)
    if primary in _UNKNOWN or "qaa" <= primary <= "qtz":
        return None
    three = _TWO_TO_THREE.get(primary, primary)
    return _SAME.get(three, three)


def primary_code(code: str | None) -> str:
    """A code without its region, in lower case: of ``de-AT`` and ``DE_at``, ``de``."""
    return (code or "").replace("_", "-").split("-")[0].strip().lower()


def language_code(written: str) -> str:
    """The code in ``SPOKEN`` of a language as people write it: ``en-US``, ``EN``, ``eng`` and ``en`` are ``en``.

    Raises:
        ValueError: it is none of them; the message lists what is accepted, and does not repeat what may be a secret.
    """
    primary = primary_code(written) if _WRITTEN.fullmatch(written.strip()) else ""
    code = primary if primary in SPOKEN else _BY_KEY.get(language_key(primary) or "")
    if code is None:
        raise ValueError(f"no language that can be transcribed; it is one of {', '.join(SPOKEN)}")
    return code


_BY_KEY = {str(language_key(code)): code for code in SPOKEN}


def language_pattern() -> str:
    """What the codes in ``SPOKEN`` look like in any case, with or without a region, for descriptions in JSON Schema."""
    ends = itertools.groupby(sorted(SPOKEN), key=lambda code: (code[:-1], len(code)))
    codes = (_any_case(start) + f"[{''.join(map(_any_case_class, group))}]" for (start, _), group in ends)
    return f"^({'|'.join(codes)}){_REGION}$"


def _any_case(letters: str) -> str:
    return "".join(f"[{letter.upper()}{letter}]" for letter in letters)


def _any_case_class(code: str) -> str:
    return f"{code[-1].upper()}{code[-1]}"
