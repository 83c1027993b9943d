"""Signatures: one Ed25519 key, in OpenSSH's format, for a model's record and for its tags.

A record is an in-toto statement in a DSSE envelope (https://github.com/secure-systems-lab/dsse, protocol 1.0.2). A tag
carries an SSH signature (OpenSSH's PROTOCOL.sshsig, namespace `git`), the one that `git tag -s` makes with
`gpg.format=ssh`: `git tag -v` checks it, and neither side needs `ssh-keygen` here.
"""

import base64
import binascii
import hashlib
import json
import os
import re
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from onestep.core.child_environment import KEY_FILE, KEY_TEXT
from onestep.core.paths import SIGNING_KEY
from onestep.provenance.private_file import SigningError, close_folder, create_file, read_private
from onestep.vcs.project import Project

PAYLOAD_TYPE = "application/vnd.in-toto+json"
NAMESPACE = "git"
_ALGORITHM = b"ssh-ed25519"
_MAGIC = b"SSHSIG"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


class SignatureInvalid(SigningError):
    """A signature does not belong to what it stands beside."""


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key: 32 bytes."""

    raw: bytes

    @property
    def text(self) -> str:
        """The key as OpenSSH writes it, without a comment; also the `keyid` of an envelope's signature."""
        return f"{_ALGORITHM.decode()} {base64.b64encode(self.blob).decode()}"

    @property
    def blob(self) -> bytes:
        """The key as it stands inside signatures and key files."""
        return _string(_ALGORITHM) + _string(self.raw)

    @property
    def fingerprint(self) -> str:
        """What `ssh-keygen -lf` shows."""
        return f"SHA256:{base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip('=')}"

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise `SignatureInvalid` where this key did not sign this message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature as error:
            raise SignatureInvalid(f"the signature of {self.fingerprint} is not one of this content") from error


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 private key."""

    private: Ed25519PrivateKey

    @property
    def public(self) -> PublicKey:
        """The key that others check with."""
        raw = self.private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return PublicKey(raw)


def make_key(path: Path) -> PublicKey:
    """Write a new private key (readable by its owner alone) and `<path>.pub`, each whole or not at all.

    Raises `SigningError` where either is there already: neither is ever overwritten.
    """
    public_file = Path(f"{path}.pub")
    if os.path.lexists(path):
        raise SigningError(
            f"{path} exists: a key is not overwritten; name another file, or move both of its files away"
        )
    if os.path.lexists(public_file):
        raise SigningError(
            f"{public_file} is there without its private key {path}: what was signed with that key is checked with this file, "
            f"so it is not replaced. Put the private key back; or, if it is lost, mv {public_file} {path}.old.pub, run this "
            "again, and give --trust a file that holds both public keys"
        )
    private = Ed25519PrivateKey.generate()
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    close_folder(path.parent)
    try:
        create_file(path, text, 0o600)
        public = SigningKey(private).public
        create_file(public_file, _public_line(public), 0o644)
    except FileExistsError as error:
        raise SigningError(f"{error.filename} was made meanwhile, by another onestep keygen as it seems") from error
    return public


def keep_key(path: Path) -> PublicKey | None:
    """The public key of a private key that is there, null where none is; `<path>.pub` is written where it is missing.

    Raises `SigningError` where the private key cannot be used, or the file beside it is another key's.
    """
    if not os.path.lexists(path):
        return None
    public, public_file = _read_key(path).public, Path(f"{path}.pub")
    if not os.path.lexists(public_file):
        with suppress(FileExistsError):
            create_file(public_file, _public_line(public), 0o644)
    if public not in read_trusted(public_file):
        raise SigningError(
            f"{public_file} is not the public key of {path}: move it away if it belongs to an older key (older records are "
            f"checked with it), then ssh-keygen -y -f {path} > {public_file}"
        )
    return public


def find_key(project: Project, path: Path | None = None) -> SigningKey | None:
    """The key to sign with: `path`, `$ONESTEP_SIGNING_KEY` (the key's text), `$ONESTEP_SIGNING_KEY_FILE`, the own key.

    The own key is `.onestep/signing-key` of the project. Null where there is none of them. Raises `SigningError` where one
    is named and cannot be used.
    """
    if path is not None:
        return _read_key(path)
    if text := os.environ.get(KEY_TEXT):
        return _parse_key(text.replace("\\n", "\n").strip().encode() + b"\n", f"${KEY_TEXT}")
    if name := os.environ.get(KEY_FILE):
        return _read_key(Path(name))
    own = project.root / SIGNING_KEY
    return _read_key(own) if os.path.lexists(own) else None


def read_trusted(path: Path) -> list[PublicKey]:
    """The Ed25519 keys of a file in the format of `.pub`, `authorized_keys` or git's `allowed_signers`.

    Raises `SigningError` for a file without such a key, and for a line whose options (validity, authorities) would be
    passed over silently.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SigningError(f"{path} cannot be read as a file of public keys: {error}") from error
    keys = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if _ALGORITHM.decode() not in words:
            continue
        place = words.index(_ALGORITHM.decode())
        options = [word for word in words[1:place] if not word.startswith("namespaces=")]
        if options or len(words) < place + 2 or (place and "=" in words[0]):
            raise SigningError(f"{path}:{number}: only '[name] ssh-ed25519 KEY [comment]' is read, without options")
        keys.append(parse_public(" ".join(words[place : place + 2])))
    if not keys:
        raise SigningError(f"{path} holds no ssh-ed25519 public key: it needs lines like those of a .pub file")
    return keys


def parse_public(text: str) -> PublicKey:
    """A public key from OpenSSH's text; raises `SigningError`."""
    try:
        blob = base64.b64decode(text.split()[1], validate=True)
        algorithm, rest = _take(blob)
        raw, rest = _take(rest)
    except (IndexError, ValueError) as error:
        raise SigningError(f"{text[:40]!r} is not an OpenSSH public key") from error
    if algorithm != _ALGORITHM or len(raw) != 32 or rest:
        raise SigningError(f"{text[:40]!r} is not an ssh-ed25519 public key")
    return PublicKey(raw)


def seal(statement: dict[str, Any], key: SigningKey | None) -> bytes:
    """A statement as a DSSE envelope in canonical JSON; without a key its list of signatures is empty."""
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    signatures = []
    if key is not None:
        signature = key.private.sign(_pae(payload))
        signatures = [{"keyid": key.public.text, "sig": base64.b64encode(signature).decode()}]
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": signatures,
    }
    return json.dumps(envelope, indent=1, sort_keys=True).encode() + b"\n"


def unseal(envelope: bytes) -> tuple[dict[str, Any], PublicKey | None]:
    """The statement of an envelope and the key that signed it; null where there is no signature.

    Whether that key may be trusted is the caller's question. Raises `SignatureInvalid` where the signature is not one of
    this statement, `SigningError` where the bytes are no such envelope.
    """
    try:
        parsed = json.loads(envelope)
        payload = base64.b64decode(parsed["payload"], validate=True)
        signatures, kind = parsed["signatures"], parsed["payloadType"]
        statement = json.loads(payload)
        signed = [(parse_public(entry["keyid"]), base64.b64decode(entry["sig"])) for entry in signatures]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SigningError(f"it is not a DSSE envelope of a statement: {error!r}") from error
    if kind != PAYLOAD_TYPE or len(signed) > 1 or not isinstance(statement, dict):
        raise SigningError(f"it is not an envelope of one {PAYLOAD_TYPE} with at most one signature")
    for key, signature in signed:
        key.verify(signature, _pae(payload))
        return statement, key
    return statement, None


def sign_tag(payload: str, key: SigningKey | None) -> str:
    """The content of a tag object with an SSH signature below it; unchanged without a key."""
    if key is None:
        return payload
    signature = _string(_ALGORITHM) + _string(key.private.sign(_to_sign(payload.encode())))
    blob = _MAGIC + struct.pack(">I", 1) + _string(key.public.blob) + _string(NAMESPACE.encode())
    blob += _string(b"") + _string(b"sha512") + _string(signature)
    text = base64.b64encode(blob).decode()
    lines = [text[start : start + 70] for start in range(0, len(text), 70)]
    return payload + "\n".join([_BEGIN, *lines, _END]) + "\n"


def tag_signer(content: str) -> PublicKey | None:
    """The key that signed a tag object's content, null where there is no signature; raises `SignatureInvalid`, `SigningError`."""
    payload, begin, armoured = content.partition(_BEGIN)
    if not begin:
        return None
    body, end, rest = armoured.partition(_END)
    if not end or rest.strip():
        raise SigningError("its SSH signature is cut off, or something follows it")
    try:
        blob = base64.b64decode("".join(body.split()), validate=True)
        if blob[:6] != _MAGIC or blob[6:10] != struct.pack(">I", 1):
            raise ValueError("not version 1")
        key_blob, blob = _take(blob[10:])
        namespace, blob = _take(blob)
        reserved, blob = _take(blob)
        hash_name, blob = _take(blob)
        signature, blob = _take(blob)
        algorithm, signature = _take(signature)
        raw, signature = _take(signature)
    except (ValueError, binascii.Error) as error:
        raise SigningError(f"its SSH signature cannot be read: {error}") from error
    key = parse_public(f"{_ALGORITHM.decode()} {base64.b64encode(key_blob).decode()}")
    if algorithm != _ALGORITHM or namespace != NAMESPACE.encode() or reserved or blob or signature:
        raise SigningError("its SSH signature is of another kind than ssh-ed25519 for git")
    if hash_name not in (b"sha512", b"sha256"):
        raise SigningError(f"its SSH signature uses the hash {hash_name!r}, known are sha256 and sha512")
    key.verify(raw, _to_sign(payload.encode(), hash_name.decode()))
    return key


def trusted(key: PublicKey | None, keys: Sequence[PublicKey]) -> bool:
    """Whether a signature's key is one of these."""
    return key is not None and key in keys


def _public_line(key: PublicKey) -> bytes:
    return f"{key.text} onestep\n".encode()


def _read_key(path: Path) -> SigningKey:
    return _parse_key(read_private(path), str(path))


def _parse_key(data: bytes, where: str) -> SigningKey:
    if not data.strip():
        raise SigningError(f"{where} is empty: make a key with onestep keygen or ssh-keygen -t ed25519")
    if re.match(rb"\s*(ssh-|ecdsa-|-----BEGIN (SSH2 |RSA )?PUBLIC KEY)", data):
        raise SigningError(f"{where} is a public key: name the private one, whose file has no .pub")
    try:
        if b"OPENSSH PRIVATE KEY" in data:
            private: Any = serialization.load_ssh_private_key(data, password=None)
        else:
            private = serialization.load_pem_private_key(data, password=None)
    except TypeError as error:  # so cryptography says that a passphrase is missing
        raise SigningError(f"{where} is locked by a passphrase: use a key without one, kept as a secret") from error
    except Exception as error:  # cryptography's own kinds differ by the fault
        raise SigningError(
            f"{where} is not a private key: make one with onestep keygen or ssh-keygen -t ed25519"
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SigningError(f"{where} is not an Ed25519 key: make one with onestep keygen or ssh-keygen -t ed25519")
    return SigningKey(private)


def _pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _to_sign(message: bytes, hash_name: str = "sha512") -> bytes:
    digest = hashlib.new(hash_name, message).digest()
    return _MAGIC + _string(NAMESPACE.encode()) + _string(b"") + _string(hash_name.encode()) + _string(digest)


def _string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _take(blob: bytes) -> tuple[bytes, bytes]:
    if len(blob) < 4:
        raise ValueError("too short")
    (length,) = struct.unpack(">I", blob[:4])
    if len(blob) < 4 + length:
        raise ValueError("too short")
    return blob[4 : 4 + length], blob[4 + length :]
