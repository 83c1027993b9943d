"""What records, sentences and pages may show: a table of secrets that must go and of words that must stay."""

from pathlib import Path

import pytest

from onestep.core.redaction import SafeError, harmless, is_secret, without_home, without_secrets
from onestep.core.yaml_files import plain, read_yaml
from onestep.provenance.check import CheckFailed
from onestep.provenance.check_files import _require_locked
from onestep.provenance.collect import as_first_recorded, clean

ROOT = Path(__file__).parents[2]
PAIR = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"
PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\nQyNTUxOQAAACB\n-----END OPENSSH PRIVATE KEY-----"

SECRETS = [  # a text and what must not be left of it
    ("base.url https://user:pw1x@host.example/wan?X-Amz-Signature=fe5f80a1 failed", ["pw1x", "fe5f80a1", "user:"]),
    ("https://user:p@ss@host/x", ["p@ss", "ss@"]),
    ("https://user:p/ss@host/x", ["p/ss", "ss@"]),
    ("https://ghp_0123456789abcdefghijABCDEFGHIJ012345@github.com/org/repo.git", ["ghp_"]),
    ("fatal: could not read from 'https://oauth2:glpat-abcDEF123456ghiJKL78@gitlab.com/x.git/'", ["glpat"]),
    (f"s3://{PAIR[0]}:{PAIR[1]}@bucket/base", [*PAIR, "K7MDENG"]),
    ("https://account.blob.core.windows.net/c/x?sv=2024-01-01&sig=Zm9v%2FYmFy%3D&se=2026", ["Zm9v", "sig="]),
    ("https://host/callback#access_token=abc123def", ["abc123def"]),
    ("ClientResponseError: 403, message='Forbidden', url=URL('https://host/x?token=abc123')", ["abc123"]),
    ("postgresql+asyncpg://prefect:choose-one@127.0.0.1:5432/prefect", ["choose-one"]),
    ("redis://:s3cr3t@cache:6379/0", ["s3cr3t"]),
    ("https://hooks.slack.com/services/T0123ABCD/B0123ABCD/XyZ123abcDEF456ghi", ["XyZ123", "T0123ABCD"]),
    ("https://discord.com/api/webhooks/123456/abcDEF", ["abcDEF"]),
    ("https://api.telegram.org/bot12345:AAF-abc/sendMessage", ["AAF-abc"]),
    ("curl -H 'Authorization: Bearer abcdef123456' https://host/x", ["abcdef123456"]),
    ("Authorization: Basic dXNlcjpwYXNz", ["dXNlcjpwYXNz"]),
    ('{"Authorization": "Bearer abcdef.123456"}', ["abcdef.123456"]),
    ("curl -H 'X-Api-Key: letmein'", ["letmein"]),
    ("Cookie: session=abcdef; csrf=123", ["abcdef", "123"]),
    ("bearer abcdefghij", ["abcdefghij"]),
    ("onestep fetch --token abcdef", ["abcdef"]),
    ("onestep fetch --token=abcdef", ["abcdef"]),
    ("onestep fetch --token 'two words1'", ["two", "words1"]),
    ("tool --api-key letmein --password hunter2", ["letmein", "hunter2"]),
    ("tool --access-token=letmein", ["letmein"]),
    ("curl -u bob:hunter2 https://host", ["hunter2"]),
    ("HF_TOKEN=letmein onestep base", ["letmein"]),
    ("export WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567", ["0123456789abcdef"]),
    ("PGPASSWORD=letmein psql", ["letmein"]),
    (f"aws_secret_access_key={PAIR[1]}", ["wJalr", "K7MDENG"]),
    (f"aws_access_key_id = {PAIR[0]}", [PAIR[0]]),
    (f"An error occurred (InvalidAccessKeyId): {PAIR[0]} does not exist", [PAIR[0]]),
    ("AccountName=x;AccountKey=Zm9vYmFyMTIzNDU2Nzg5MA==;EndpointSuffix=core.windows.net", ["Zm9vYmFy"]),
    ('{"private_key": "-----BEGIN PRIVATE KEY-----\\nMIIEvQ\\n-----END PRIVATE KEY-----\\n"}', ["MIIEvQ"]),
    ('{"client_secret": "GOCSPX-abc_def"}', ["GOCSPX"]),
    (PEM, ["b3Blbn", "QyNTUx"]),
    ("token hf_abcdefghijKLMNOPQRSTuvwxyz012345 is invalid", ["hf_abc"]),
    ("ghp_0123456789abcdefghijABCDEFGHIJ012345", ["ghp_"]),
    ("github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz", ["github_pat"]),
    ("xoxb-123456789012-abcdefGHIJKL", ["xoxb"]),
    ("sk-proj-abcdefghij0123456789ABCDEFGHIJ", ["sk-proj"]),
    ("AIzaSyA1234567890abcdefghijklmnopqrstuv", ["AIza"]),
    ("npm_abcdefghijklmnopqrstuvwxyz0123456789", ["npm_"]),
    ("SG.abcdefghijklmnop.qrstuvwxyz0123456789", ["SG.a"]),
    (f"jwt {JWT}", ["eyJ", "dozjg"]),
    ("password: hunter2", ["hunter2"]),
    ("{'password': 'letmein'}", ["letmein"]),
    ("signature=MEUCIQDx7", ["MEUCIQDx7"]),
    ("Password: letmein", ["letmein"]),
    ("--config=api_key=abc1", ["abc1"]),
    ("storage_options: {'key': 'abc1', 'secret': 'def2'}", ["abc1", "def2"]),
    ("S3FileSystem(key='abc1', secret='def2')", ["abc1", "def2"]),
    ("the token abcdefg1 was refused", ["abcdefg1"]),
    ("bob:hunter2@github.com/org/x", ["hunter2"]),
    ("https%3A%2F%2Fuser%3Apw1x%40host", ["pw1x"]),
    ("https://user:p'w@host/x", ["user:p"]),
    (f"it said {PAIR[1]}", ["wJalr", "bPxRf"]),
    ("key dGhpcyBpcyBhIHNlY3JldCBrZXkgb2YgMzIgYnl0ZXM= refused", ["dGhpcy"]),
]  # fmt: skip
PLACES = [  # what is left of a command's or a setting's place
    ("/home/alice/footage/a.mp4", "…/a.mp4"),
    ("/home/alice", "…"),
    ("/home/alice/", "…"),
    ("/Users/alice", "…"),
    ("/Users/alice/footage", "…/footage"),
    ("C:\\Users\\alice", "…"),
    ("C:\\Users\\alice\\footage", "…/footage"),
    ("~alice/footage", "…/footage"),
    ("~alice", "…"),
    ("~/footage", "…/footage"),
    ("--from=/home/alice/footage", "--from=…/footage"),
    ("file:///home/alice/footage", "file://…/footage"),
    ("/root", "…"),
    ("../../alice/footage", "…/footage"),
    ("DATA=/home/alice/footage", "DATA=…"),
]
HARMLESS = [
    "onestep ingest data/footage --out data/clips",
    "python -m mypackage.train --lr 3e-05 --epochs 10 --size 64x64",
    "torchrun --standalone --nproc_per_node 2 train.py",
    "OMP_NUM_THREADS=2 CUDA_VISIBLE_DEVICES=0,1 onestep encode data/clips",
    "s3://our-bucket/footage/2026-11-28",
    "hf://Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "https://huggingface.co/Wan-AI/Wan2.1-T2V-14B/resolve/main/model.safetensors",
    "git@github.com:our-team/footage.git",
    "ssh://git@github.com/our-team/footage.git",
    "abfs://footage@account.dfs.core.windows.net/clips",
    "http://[::1]:4200/api",
    "http://127.0.0.1:4200/api",
    "data/bundled/tiny-wan",
    "rendered by this project",
    "Apache-2.0",
    "samples/teacher-25",
    "1h30m",
    "720p",
    "bf16",
    "v1.2.0",
    "a small red circle bouncing on teal",
    "footage/BigBuckBunny_320x180.mp4",
    "--set-param adversarial.updates=60",
    "cat data/a.csv | sort -u > data/b.csv && wc -l data/b.csv",
    "text_tokens=16 token_dropout=0.25",
    "dvc.yaml:train",
    "runs/2026-11-28-0512-a1b2",
    "sha256:5d38d5eb0ea86c0b5fbdadf7b80f2d3b2df4e2381919e025c1c1f7aaae28adc9",
    "",
]
SENTENCES = [
    "data/clips/clips-00005.tar: its bytes in the cache have md5 84c12ce59fdd0c9bb9ea2c6b4b1bd9ae, not 98d587f1",
    "no signing key: records and promotions are unsigned",
    "onestep keygen, and keep the key where only the scheduler reads it (ONESTEP_SIGNING_KEY_FILE names it)",
    "record, promote and rollback take it from --key FILE",
    "params.yaml: gate.alpha is 2: the nearest legal value is 1",
    "params.yaml:12: the key 'gate.alpha' stands twice",
    "git clone --quiet in /srv/onestep: fatal: repository '/srv/other' does not exist",
    "the disk of /home/alice/onestep/.dvc/cache is full: 3.2 GB were needed",
    "run 2026-11-28-0512-a1b2 at commit 67594ab1c3d4 in /srv/onestep/.onestep/runs/2026-11-28-0512-a1b2",
    "signed by SHA256:paaHACRO1BR4yKn2U7pwXoYpoc4IP55SJ98QByznFG4",
    "Flow run 'crystal-otter' 0b5f9a3e-53d1-4f6b-9f0e-2f8f5a3c1d2e is Running",
    "look at http://127.0.0.1:4200, then at https://docs.prefect.io/v3/concepts.",
    "ERROR: failed to reproduce 'adversarial': failed to run: onestep adversarial data/latents, exited with 1",
    "text_tokens: 16, token_exchange: 0.0, token_dropout: 0.25",
]


@pytest.mark.parametrize(("text", "gone"), SECRETS)
@pytest.mark.parametrize("redact", [without_secrets, harmless])
def test_secrets_go(text: str, gone: list[str], redact) -> None:
    shown = redact(text)
    assert not [secret for secret in gone if secret in shown], shown
    assert redact(shown) == shown


@pytest.mark.parametrize(("text", "shown"), PLACES)
def test_of_a_machines_folders_a_record_keeps_the_last_name(text: str, shown: str) -> None:
    assert harmless(text) == shown
    assert harmless(shown) == shown


@pytest.mark.parametrize(
    "text",
    ["mysql -p hunter2", "mysql -phunter2", "sshpass -p 'hunter2' ssh x", "login bob:hunter2", "FOO=hunter2 x"],
)
def test_a_command_keeps_only_what_is_known_to_be_harmless(text: str) -> None:
    assert "hunter2" not in harmless(text)
    assert harmless(harmless(text)) == harmless(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_words_of_commands_stay(text: str) -> None:
    assert harmless(text) == text
    assert without_secrets(text) == text


@pytest.mark.parametrize("text", SENTENCES)
def test_sentences_stay(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize("project", [ROOT, ROOT / "data" / "bundled"])
def test_every_command_and_setting_of_the_shipped_graph_stays(project: Path) -> None:
    stages = read_yaml(project / "dvc.yaml")["stages"]
    for stage in stages.values():
        command = stage.get("cmd") or stage["do"]["cmd"]
        assert harmless(command) == command
    for group, settings in read_yaml(project / "params.yaml").items():
        assert clean(settings, group) == plain(settings)


@pytest.mark.parametrize("text", [*(text for text, _ in SECRETS), *(text for text, _ in PLACES), *HARMLESS, *SENTENCES])
def test_what_was_redacted_stays_as_it_is(text: str) -> None:
    for redact in (without_secrets, harmless):
        assert redact(redact(text)) == redact(text)
        assert redact(without_secrets(text)) == redact(text)


def test_a_settings_name_tells_what_it_is() -> None:
    secret = ("password", "hf_token", "apiKey", "aws_access_key_id", "ACCOUNT_KEY", "db.passwd", "client_secret")
    assert [name for name in (*secret, "text_tokens", "token_dropout", "key_file", "select") if is_secret(name)] == [
        *secret
    ]
    said = clean({"token": "plain", "password": 1234, "sha256": "ab" * 32, "other": "cd" * 32, "seed": 7})
    assert said == {"token": "…", "password": "…", "sha256": "ab" * 32, "other": "…", "seed": 7}


def test_an_error_that_quotes_others_keeps_their_credentials_to_itself() -> None:
    error = SafeError("https://user:pw@host/x?sig=1 cannot be reached")
    assert str(error) == "https://host/x cannot be reached"


def test_a_page_for_others_names_no_home() -> None:
    assert without_home("no clone of /home/alice/onestep") == "no clone of ~/onestep"


@pytest.mark.parametrize(
    "text",
    [
        "https://user:pw@host/x?sig=1",
        "train --data /home/alice/footage",
        "HF_TOKEN=letmein tool ~alice/x",
        "tool --token abcdef https://host/x",
        "onestep gate reports/metrics.json --out reports/verdict.json",
    ],
)
def test_a_record_by_the_first_rules_still_says_the_same_as_the_lock(text: str) -> None:
    for recorded in (harmless(text), as_first_recorded(text)):
        stage = {
            "cmd": recorded,
            "params": {"base": {"url": recorded}},
            "deps": [{"path": recorded, "md5": "1"}],
            "outs": [],
        }
        locked = {"cmd": text, "params": {"params.yaml": {"base": {"url": text}}}, "deps": [{"path": text, "md5": "1"}]}
        _require_locked("train", locked, stage)
        with pytest.raises(CheckFailed, match="has another command"):
            _require_locked("train", locked | {"cmd": f"{text} --more"}, stage)
