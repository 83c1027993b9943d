import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from onestep.core.paths import SIGNING_KEY
from onestep.provenance.signing import (
    KEY_FILE,
    KEY_TEXT,
    SignatureInvalid,
    SigningError,
    SigningKey,
    find_key,
    keep_key,
    make_key,
    read_trusted,
    seal,
    sign_tag,
    tag_signer,
    unseal,
)
from onestep.vcs.project import Project

TAG = "object 0\ntype commit\ntag onestep@v1.0.0\ntagger A <a@b> 0 +0000\n\nRegistered\n"
needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    make_key(tmp_path / "own")
    found = find_key(Project(tmp_path), tmp_path / "own")
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
    found = find_key(Project(tmp_path), tmp_path / "theirs")
    assert found is not None
    assert read_trusted(tmp_path / "theirs.pub") == [found.public]


def test_key_comes_from_file_variable_or_the_projects_own(
    key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_key(Project(tmp_path)) is None
    (tmp_path / ".onestep").mkdir()
    shutil.copy(tmp_path / "own", tmp_path / ".onestep/signing-key")
    monkeypatch.setenv(KEY_FILE, str(tmp_path / "other"))
    make_key(tmp_path / "other")
    other = find_key(Project(tmp_path))
    assert other is not None
    assert other.public != key.public
    monkeypatch.setenv(KEY_TEXT, (tmp_path / "own").read_text())
    for name in (KEY_TEXT, KEY_FILE):
        found = find_key(Project(tmp_path))
        assert found is not None
        assert (found.public == key.public) == (name == KEY_TEXT)
        monkeypatch.delenv(name)
    found = find_key(Project(tmp_path))
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
    write_private(tmp_path / "key", content)
    with pytest.raises(SigningError, match=r"key is not a private key: make one with onestep keygen"):
        find_key(Project(tmp_path), tmp_path / "key")


def write_private(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o600)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o666, 0o601, 0o777])
@pytest.mark.parametrize("way", ["option", "variable", "own"])
def test_key_that_others_can_read_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, way: str
) -> None:
    path = tmp_path / SIGNING_KEY
    make_key(path)
    path.chmod(mode)
    if way == "variable":
        monkeypatch.setenv(KEY_FILE, str(path))
    with pytest.raises(SigningError) as refused:
        find_key(Project(tmp_path / "elsewhere" if way == "variable" else tmp_path), path if way == "option" else None)
    assert f"is open to others (mode {mode:04o}): chmod 600 {path}" in str(refused.value)
    path.chmod(0o400)
    assert find_key(Project(tmp_path)) is not None


def test_key_in_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    path = tmp_path / SIGNING_KEY
    make_key(path)
    path.parent.chmod(0o777)
    with pytest.raises(SigningError, match=rf"can be written to by others \(mode 0777\).*chmod go-w {path.parent}"):
        find_key(Project(tmp_path))
    path.parent.chmod(0o1777)
    assert find_key(Project(tmp_path)) is not None, "in a sticky folder like /tmp others cannot replace it"


def test_a_new_key_closes_the_folder_that_it_is_put_into(tmp_path: Path) -> None:
    (tmp_path / ".onestep").mkdir()
    (tmp_path / ".onestep").chmod(0o777)
    make_key(tmp_path / SIGNING_KEY)
    assert (tmp_path / ".onestep").stat().st_mode & 0o777 == 0o755
    assert find_key(Project(tmp_path)) is not None


def odd_key(kind: str, path: Path) -> None:
    make_key(path.with_name("good"))
    if kind == "link":
        path.symlink_to("good")
    elif kind == "link to an open key":
        path.with_name("good").chmod(0o644)
        path.symlink_to("good")
    elif kind == "dangling":
        path.symlink_to("away")
    elif kind == "folder":
        path.mkdir(mode=0o700)
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "empty":
        write_private(path, "")
    elif kind == "public":
        write_private(path, path.with_name("good.pub").read_text())
    else:
        made = rsa.generate_private_key(65537, 2048) if kind == "rsa" else Ed25519PrivateKey.generate()
        lock = serialization.BestAvailableEncryption(b"x") if kind == "locked" else serialization.NoEncryption()
        text = made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        write_private(path, text.decode())


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("link", None),
        ("link to an open key", "is open to others"),
        ("dangling", "is a link that leads nowhere"),
        ("folder", "is a folder: name the key's own file"),
        ("pipe", "is no regular file"),
        ("empty", "is empty: make a key"),
        ("public", "is a public key: name the private one"),
        ("rsa", "is not an Ed25519 key"),
        ("locked", "is locked by a passphrase"),
    ],
)
def test_a_key_of_another_kind_is_refused_in_one_sentence(tmp_path: Path, kind: str, says: str | None) -> None:
    path = tmp_path / SIGNING_KEY
    path.parent.mkdir()
    odd_key(kind, path)
    if says is None:
        assert find_key(Project(tmp_path)) is not None
        return
    with pytest.raises(SigningError, match=says) as refused:
        find_key(Project(tmp_path))
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_new_pair_takes_the_place_of_neither_half_of_an_old_one(tmp_path: Path) -> None:
    path, public_file = tmp_path / "own", tmp_path / "own.pub"
    make_key(path)
    before = public_file.read_bytes()
    path.unlink()
    for command in (["keygen", str(path)], ["keygen", str(path), "--if-missing"]):
        done = subprocess.run(
            [sys.executable, "-m", "onestep.cli", *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "without its private key" in done.stderr
        assert f"mv {public_file}" in done.stderr
    assert public_file.read_bytes() == before
    assert not path.exists()
    public_file.rename(tmp_path / "own.old.pub")
    make_key(path)
    (tmp_path / "trusted").write_bytes(before + public_file.read_bytes())
    assert len(read_trusted(tmp_path / "trusted")) == 2


def test_kept_key_gets_its_public_half_again_and_another_keys_half_is_refused(tmp_path: Path) -> None:
    path, public_file = tmp_path / "own", tmp_path / "own.pub"
    assert keep_key(path) is None
    public = make_key(path)
    public_file.unlink()
    assert keep_key(path) == public
    assert read_trusted(public_file) == [public]
    make_key(tmp_path / "other")
    shutil.copy(tmp_path / "other.pub", public_file)
    with pytest.raises(SigningError, match="is not the public key of"):
        keep_key(path)
    assert read_trusted(public_file) != [public]


def test_pair_appears_whole(tmp_path: Path) -> None:
    make_key(tmp_path / "own")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "own.pub"]
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("own", "own.pub")] == [0o600, 0o644]
