import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from onestep.registry.signing import (
    KEY_FILE,
    KEY_TEXT,
    SignatureInvalid,
    SigningError,
    SigningKey,
    find_key,
    make_key,
    read_trusted,
    seal,
    sign_tag,
    tag_signer,
    unseal,
)

TAG = "object 0\ntype commit\ntag onestep@v1.0.0\ntagger A <a@b> 0 +0000\n\nRegistered\n"
needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    make_key(tmp_path / "own")
    found = find_key(tmp_path, tmp_path / "own")
    assert found is not None
    return found


def test_envelope_gives_back_its_statement_and_its_signer(key: SigningKey) -> None:
    assert unseal(seal({"a": 1}, key)) == ({"a": 1}, key.public)
    assert unseal(seal({"a": 1}, None)) == ({"a": 1}, None)


def test_envelope_with_another_statement_is_refused(key: SigningKey) -> None:
    envelope = json.loads(seal({"a": 1}, key))
    envelope["payload"] = base64.b64encode(b'{"a":2}').decode()
    with pytest.raises(SignatureInvalid, match="is not one of this content"):
        unseal(json.dumps(envelope).encode())


def test_signature_of_a_tag_is_read_back_and_bound_to_its_content(key: SigningKey) -> None:
    signed = sign_tag(TAG, key)
    assert tag_signer(signed) == key.public
    assert tag_signer(TAG) is None
    with pytest.raises(SignatureInvalid):
        tag_signer(signed.replace("v1.0.0", "v1.0.1"))
    with pytest.raises(SigningError, match="cut off"):
        tag_signer(signed[:-40])


@needs_ssh_keygen
def test_ssh_keygen_accepts_our_signature_and_we_accept_its_own(key: SigningKey, tmp_path: Path) -> None:
    (tmp_path / "allowed").write_text(f"someone {key.public.text}\n")
    signature = sign_tag(TAG, key).removeprefix(TAG)
    (tmp_path / "sig").write_text(signature)
    verify = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "someone", "-n", "git", "-s", "sig"]
    subprocess.run(verify, cwd=tmp_path, input=TAG.encode(), check=True, capture_output=True)
    sign = ["ssh-keygen", "-Y", "sign", "-f", "own", "-n", "git"]
    theirs = subprocess.run(sign, cwd=tmp_path, input=TAG.encode(), check=True, capture_output=True).stdout.decode()
    assert tag_signer(TAG + theirs) == key.public


@needs_ssh_keygen
def test_key_made_by_ssh_keygen_signs(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "theirs")], check=True)
    found = find_key(tmp_path, tmp_path / "theirs")
    assert found is not None
    assert read_trusted(tmp_path / "theirs.pub") == [found.public]


def test_key_comes_from_file_variable_or_the_projects_own(
    key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_key(tmp_path) is None
    (tmp_path / ".onestep").mkdir()
    shutil.copyfile(tmp_path / "own", tmp_path / ".onestep/signing-key")
    monkeypatch.setenv(KEY_FILE, str(tmp_path / "other"))
    make_key(tmp_path / "other")
    other = find_key(tmp_path)
    assert other is not None
    assert other.public != key.public
    monkeypatch.setenv(KEY_TEXT, (tmp_path / "own").read_text())
    for name in (KEY_TEXT, KEY_FILE):
        found = find_key(tmp_path)
        assert found is not None
        assert (found.public == key.public) == (name == KEY_TEXT)
        monkeypatch.delenv(name)
    found = find_key(tmp_path)
    assert found is not None
    assert found.public == key.public


def test_private_key_is_its_owners_alone_and_is_not_overwritten(key: SigningKey, tmp_path: Path) -> None:
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o600
    with pytest.raises(SigningError, match="a key is not overwritten"):
        make_key(tmp_path / "own")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "holds no ssh-ed25519 public key"),
        ("ssh-rsa AAAA", "holds no ssh-ed25519 public key"),
        ('a valid-before="20200101" {key}', "without options"),
        ("ssh-ed25519 !!!!", "is not an OpenSSH public key"),
    ],
)
def test_file_of_trusted_keys_is_read_whole_or_refused(key: SigningKey, tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "trusted").write_text(line.format(key=key.public.text) + "\n")
    with pytest.raises(SigningError, match=reason):
        read_trusted(tmp_path / "trusted")


def test_trusted_keys_are_read_in_each_known_format(key: SigningKey, tmp_path: Path) -> None:
    text = key.public.text
    (tmp_path / "trusted").write_text(f'# ours\n{text} comment\nme@example.org namespaces="git" {text}\n')
    assert read_trusted(tmp_path / "trusted") == [key.public, key.public]


@pytest.mark.parametrize(
    "content", ["nothing", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_refused_in_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)
    with pytest.raises(SigningError, match=r"key is not a private key: make one with onestep keygen"):
        find_key(tmp_path, tmp_path / "key")
