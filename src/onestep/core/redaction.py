"""What may be shown of a text: secrets left out, by what is known to be harmless.

`without_secrets` is for sentences, logs and pages; `harmless` for commands and settings in records, which also hold no
machine's paths. Both are idempotent, and what is left out shows as `…`.
"""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

MARK = "…"

_FORMATS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\beyJ[\w-]{8,}\.[\w-]*(?:\.[\w-]*)?"
    r"|\b(?:gh[pousr]|github_pat|hf|api_org|npm|dop_v1|doo_v1|shpat|dckr_pat|dapi|r8|lin_api|(?:sk|pk|rk)_(?:live|test))"
    r"_?[A-Za-z0-9_]{16,}"
    r"|\b(?:glpat|sk|xox[a-z]|xapp|pypi|rubygems|ATATT|ntn)-?[A-Za-z0-9_=-]{16,}"
    r"|\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}|\bAIza[\w-]{30,}|\bya29\.[\w.-]+|\bSG\.[\w-]{10,}\.[\w-]+"
    r"|\bEAA[A-Za-z0-9]{20,}",
    re.DOTALL,
)
_QUOTED = r"'[^'\n]*'|\"(?:\\.|[^\"\\\n])*\""
_SCHEMED = re.compile(rf"(?i)\b(bearer|basic|digest|negotiate|aws4-hmac-sha256)(\s+)(?!{MARK})([^\s'\",;]{{6,}})")
_OPTION = re.compile(rf"(?<!\S)(--?[A-Za-z][\w-]*)(\s+|=)({_QUOTED}|[^\s'\"]+)")
_KEY = re.compile(r"(?<![\w.])(?P<key>[A-Za-z_][\w.-]{0,80})(?P<sign>[\\]?[\"']?\s*(?:=|:(?!//|\\))\s*)")
_VALUE = re.compile(rf"[\\]?{_QUOTED}|[^\s,;&}}\]'\"<>]+")
_SAID = re.compile(
    r"(?i)\b((?:password|passwd|token|secret)\s+(?:is\s+|was\s+)?['\"]?)"
    r"(?=[\w+/=-]*\d)(?=[\w+/=-]*[a-z])[\w+/=-]{6,}"
)
_LOGIN = re.compile(r"(?<![\w/.@-])[\w.+-]{1,80}:[^\s@/'\"]{1,200}@(?=[\w-])")
_ENCODED = re.compile(r"(?i)(%3A%2F%2F)(?!…)[^\s&'\"]+")
_SHORT = re.compile(r"(?<!\S)(-[pPu]\s+['\"]?)([^\s/='\".<>|&-]*[^\s/='\".\d<>|&-][^\s/='\".]*)(?=['\"\s]|$)")
_HEADER = re.compile(
    r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]{0,60}(?:key|token|secret|signature|auth)[a-z-]{0,60})"
    r"([\"']?\s*+[:=]\s*+[\"']?+)(?!…)([^'\"\n]+)"
)
_ACCOUNT = re.compile(r"(?<!\S)(-u|--user|--proxy-user)(\s+|=)(['\"]?)([^\s'\":]+):([^\s'\"]+)")
_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,30}(?:::[a-z]+)*)://([^\s'\"<>`|]*)")
_WORD = re.compile(r"[^\s'\"`(){}\[\],;|&<>]+")

_SECRET_WORDS = re.compile(
    r"\w*pass(?:word|wd|phrase)|pass(?:words|wort|code)?|pwd|pw|\w*secrets?|cred(?:s|ential|entials)?|auth(?:orization)?|bearer|cookies?|"
    r"signature|sig|sas|jwt|otp|dsn|netrc|(?:api|account|access|secret|private)key|sharedaccess\w*|connectionstring"
)
_SECRET_LAST = re.compile(r"\w*token|tok|key|webhook")  # `hf_token` is one, `token_dropout` and `text_tokens` are not
_DIGESTS = re.compile(r"(?i)(^|[_.\s-])(sha\d*|sha256|md5|commit|rev|revision|digest|etag|checksum|fingerprint|hash)$")
_NAMES_A_PLACE = re.compile("file|path|dir|folder|name|url")
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_HUMP = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_NUMBER = re.compile(r"[+-]?\d[\d.,_:x×/-]*(?:[eE][+-]?\d+)?(?:[A-Za-z%µ]{1,4})?|[+-]?(?:inf|nan)")
_HARMLESS_VARIABLE = re.compile(
    r"(?:OMP|MKL|OPENBLAS|NUMEXPR|GOMP|KMP|CUDA|NVIDIA|NCCL|TORCH|PYTORCH|PYTHON|LC|DVC)_?\w*|LANG|TZ|DO_NOT_TRACK|"
    r"TOKENIZERS_PARALLELISM|ACCELERATE_\w+|TRANSFORMERS_OFFLINE|HF_(?:HUB_OFFLINE|HOME|HUB_\w*TIMEOUT)"
)
_ABSOLUTE = re.compile(r"(?:/|~[\w.-]*(?:[/\\]|$)|[A-Za-z]:[\\/]|\\\\|\.\./)")
_HOMES = re.compile(r"(?i)[/\\](home|users|root|export[/\\]home|u)[/\\]?$")
_ASSIGNED = re.compile(r"(-{0,2}[A-Za-z_][\w.-]*=)(.*)")
_OPTION_NAME = re.compile(r"--?[A-Za-z]|-([a-z])\1+|-[a-zA-Z]\d+|--[a-z][a-z0-9_-]{1,40}|--?")
_RUN = re.compile(r"(?<![A-Za-z0-9+/=_.~-])(?<!SHA256:)[A-Za-z0-9+/=_.~-]{12,}")
_LONGEST = 400  # characters of a word; the patterns below must not be asked about a whole file in one line
_LEAST_RANDOM = 12  # characters of a run in a sentence before it can be taken for a key


def without_secrets(text: str) -> str:
    """A sentence, a log line or a page without credentials; paths, names, digests and addresses stay."""
    return _cleaned(text, _sentence_word)


def harmless(text: str, name: str = "") -> str:
    """A command or a setting with what is known to be harmless; `name`: what the setting is called.

    Kept are option names, relative paths, plain words, numbers, durations, digests under a digest's name, and of a URL
    its scheme, host and path. Of an absolute path its last part is kept, but not where that is a person's home.
    """
    if is_secret(name):
        return MARK
    if _DIGESTS.search(name) and _HEX.fullmatch(text):
        return text
    return _cleaned(_SHORT.sub(rf"\1{MARK}", text), _command_word)


def is_secret(name: str) -> bool:
    """Whether what is called so, an option, a variable or a setting, is a secret."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]
    if not words or _NAMES_A_PLACE.fullmatch(words[-1]):
        return False
    if _SECRET_LAST.fullmatch(words[-1]) or words[-2:] == ["key", "id"]:
        return True
    return any(_SECRET_WORDS.fullmatch(word) for word in (*words, *(a + b for a, b in pairwise(words))))


def without_parts(text: str, url: str) -> str:
    """What a library said of an address, without the address's own user, password and query, which it may quote apart."""
    rest = url.partition("://")[2]
    user, _, place = rest.rpartition("@")
    query = re.split(r"[?#]", place, maxsplit=1)[1:]
    values = [part.partition("=")[2] for part in re.split("[&;#]", query[0])] if query else []
    for part in sorted({user, *user.split(":", 1)[1:], *query, *values}, key=len, reverse=True):
        if len(part) >= 3 and (part != "git"):
            text = text.replace(part, MARK)
    return text


def without_home(text: str) -> str:
    """The text without the folder of this person, which a page for others does not need."""
    return re.sub(r"(/home/|/Users/|[A-Za-z]:\\Users\\)[^/\\\s'\"]+", "~", text)


class SafeError(RuntimeError):
    """An error whose message quotes what other programs said: credentials are left out of it."""

    def __init__(self, message: object = "", *rest: Any) -> None:
        super().__init__(without_secrets(str(message)), *rest)


def _cleaned(text: str, word: Callable[[str], str]) -> str:
    text = _FORMATS.sub(MARK, text)
    text = _URL.sub(_url, text)
    text = _HEADER.sub(rf"\1\2{MARK}", text)
    text = _SCHEMED.sub(rf"\1\2{MARK}", text)
    text = _ACCOUNT.sub(rf"\1\2\3\4:{MARK}", text)
    text = _OPTION.sub(_option, text)
    text = _LOGIN.sub(f"{MARK}@", _SAID.sub(rf"\1{MARK}", _ENCODED.sub(rf"\1{MARK}", text)))
    text = _pairs(text)
    return _WORD.sub(lambda found: word(found[0]), text)


def _option(found: re.Match[str]) -> str:
    option, sign, value = found[1], found[2], found[3]
    names_a_file = option == "--key" and re.match(r"[./]|[A-Z]+$", value)
    if not is_secret(option) or names_a_file or (sign != "=" and value.startswith("-")):
        return found[0]
    return f"{option}{sign}{MARK}"


def _pairs(text: str) -> str:
    """`key=value` and `key: value` without the values of secret keys, nested ones (`--config=token=x`) too."""
    shown, at = [], 0
    while found := _KEY.search(text, at):
        value = _VALUE.match(text, found.end())
        shown.append(text[at : found.end()])
        at = found.end()
        if value and not value[0].startswith(MARK) and is_secret(found["key"]) and not _is_prose(found, value):
            shown.append(MARK)
            at = value.end()
    return "".join([*shown, text[at:]])


def _is_prose(key: re.Match[str], value: re.Match[str]) -> bool:
    """`no key: make one with …`, unlike `password: letmein`."""
    if key["sign"] != ": ":
        return False
    if key["key"].lower() == "key":
        return _known(value[0], 8)
    return value[0].isalpha() and re.match(r" \w", value.string[value.end() :]) is not None


def _url(found: re.Match[str]) -> str:
    scheme, rest = found[1], re.sub(r"[).,:;\]}]+$", "", found[2])
    trailing = found[2][len(rest) :]
    authority, slash, path = rest.partition("/")
    user, sign, host = authority.rpartition("@")
    if sign:
        authority = (
            f"{user}@{host}"
            if user == "git" or (scheme.startswith("abfs") and ":" not in user and _known(user, 1))
            else host
        )
    elif re.search(r":(?!\d*$)", authority) and "@" in path:  # a password that holds a slash
        authority, slash, path = path.rpartition("@")[2].partition("/")
    if re.search(r":(?!\d*$)", authority) and not re.match(r"\[[0-9a-fA-F:]+\](:\d+)?$", authority):
        authority = MARK
    end = re.search(r"[?#]|;\w+=", authority + slash + path)
    kept = (authority + slash + path)[: end.start()] if end else authority + slash + path
    host, slash, path = kept.partition("/")
    if scheme.lower() == "file" and not host:
        path = _command_word("/" + path) if path.startswith(("home/", "Users/", "root/")) else "/" + path
        return f"{scheme}://{path}{trailing}"
    segments = [part if _known(part, 12) else MARK for part in path.split("/")]
    if re.search(r"(^|\.)(hooks|webhook)\.|discord|telegram", host):
        segments = [MARK]
    return f"{scheme}://{host}{slash}{'/'.join(segments)}{trailing}"


def _sentence_word(word: str) -> str:
    if "://" in word or MARK in word or re.search(r"\.[A-Za-z][A-Za-z0-9]{1,4}[.:]?$", word):
        return word  # an address was seen to already; a file is named
    return _RUN.sub(lambda run: run[0] if _known(run[0], _LEAST_RANDOM) else MARK, word)


def _command_word(word: str) -> str:
    if "://" in word or word == MARK or re.fullmatch(r"::[0-9a-f:]+|[0-9a-f:]+::[0-9a-f:]*|:\d+(/[\w./-]*)?", word):
        return word  # an address was seen to already
    if found := _ASSIGNED.fullmatch(word):
        return found[1] + _assigned(found[1][:-1], found[2]) if _strictly(found[1]) else MARK
    if _ABSOLUTE.match(word):
        return _last_part(word)
    left, colon, right = word.partition(":")
    if _NUMBER.fullmatch(word):
        kept = len(word) <= 24
    elif word.startswith("-"):
        kept = bool(_OPTION_NAME.fullmatch(word))
    elif colon and right:
        return _joined(left, right)
    else:
        kept = _strictly(word)
    return word if kept else MARK


def _assigned(key: str, value: str) -> str:
    if not value or (_DIGESTS.search(key) and _HEX.fullmatch(value)):
        return value
    if re.fullmatch(r"[A-Z][A-Z0-9_]*", key) and not _HARMLESS_VARIABLE.fullmatch(key):
        return value if _NUMBER.fullmatch(value) else MARK
    return _command_word(value)


def _joined(left: str, right: str) -> str:
    """`host:port`, `file:line`, `dvc.yaml:stage`, `sha256:…` and git's addresses; else the right side may be a password."""
    if _DIGESTS.search(left) and _HEX.fullmatch(right):
        return f"{left}:{right}"
    named = right.isdigit() or re.search(r"[/.]", left) or re.fullmatch(r"git@[\w.-]+", left)
    return f"{_command_word(left)}:{right if named and _strictly(right) else MARK}"


def _last_part(path: str) -> str:
    """An absolute path as a record names it; a home folder has no last part."""
    if path in ("/", "/dev/null"):
        return path
    folder, _, name = path.rstrip("/\\").replace("\\", "/").rpartition("/")
    if not name or not folder or _HOMES.search(folder.replace("\\", "/") + "/") or name.startswith("~"):
        return MARK
    return f"{MARK}/{name if _strictly(name) else MARK}"


def _strictly(word: str) -> bool:
    return not _UUID.search(word) and _known(word, 1)


def _known(word: str, least: int) -> bool:
    """Whether every run of letters and digits, of `least` characters or more, is one that people write."""
    if _UUID.fullmatch(word):
        return True
    if len(word) > _LONGEST:
        return False
    runs = re.findall(r"[A-Za-z0-9]+", word)
    mixed = [run for run in runs if len(run) >= 5 and not run.isalpha() and not run.isdigit() and not _simple(run)]
    if len(mixed) >= 3 or re.search(r"[A-Za-z0-9]{8,}={1,2}$", word):
        return False
    return all(_ordinary(run, least > 1) for run in runs if len(run) >= least)


def _simple(run: str) -> bool:
    """One change between letters and digits, or a few of one letter: `seed2`, `720p`, `h264`, `20261128T0200Z`."""
    groups = re.findall(r"[A-Za-z]+|\d+", run)
    return len(groups) <= 2 or (len(groups) <= 4 and all(len(group) == 1 or group.isdigit() for group in groups[1:3]))


def _ordinary(run: str, in_sentence: bool) -> bool:
    if run.isdigit():
        return in_sentence or len(run) <= 12
    if _HEX.fullmatch(run) and (in_sentence or 7 <= len(run) <= 12):
        return True
    if run.isalpha():
        humps = _HUMP.findall(run)
        mixed = len(humps) > 1 and any(len(hump) > 6 and hump.isupper() for hump in humps)
        wild = re.search(r"(?i)[bcdfghjklmnpqrstvwxz]{7,}", run) or mixed or len(run) / len(humps) < 2.7
        return len(run) < 10 or (len(run) <= 32 and not wild and max(map(len, humps)) <= 24)
    if len(run) > 16:
        return False
    return _simple(run) or len(run) <= 5
