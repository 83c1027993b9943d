"""`onestep record`, `promote`, `rollback`, `gc` and `keygen`: what people and schedules do with a finished run."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from onestep.cli.arguments import HAND, input_file, output_file, sentence
from onestep.cli.here import here
from onestep.core.paths import SIGNING_KEY

app = typer.Typer()

Key = Annotated[
    Path | None,
    input_file(
        "Private Ed25519 key; else $ONESTEP_SIGNING_KEY (its text), $ONESTEP_SIGNING_KEY_FILE, .onestep/signing-key.",
        option=True,
    ),
]


@app.command(rich_help_panel=HAND)
def keygen(
    out: Annotated[
        Path, output_file("Where the private key goes; the public one beside it, .pub.", option=False)
    ] = Path(SIGNING_KEY),
    if_missing: Annotated[bool, typer.Option(help="Keep a key that is there.")] = False,
) -> None:
    """Make an Ed25519 key for records and tags, in OpenSSH's format."""
    from onestep.provenance.signing import keep_key, make_key

    if if_missing and (kept := keep_key(out)):
        print(f"{out} stays: {kept.fingerprint}")
    else:
        print(f"{out} and {out}.pub: {make_key(out).fingerprint}")


@app.command(rich_help_panel=HAND)
def record(
    key: Key = None,
    push: Annotated[
        bool, typer.Option(help="Push the run's data to the default DVC remote, where there is one.")
    ] = True,
) -> None:
    """Record this run on `runs/<id>` with a signed record, promoted or refused; your branch stays as it is."""
    from onestep.provenance.signing import find_key
    from onestep.registry.recording import record as run

    project = here()
    done = run(project, find_key(project, key), push=push)
    what = "recorded" if done.new else "recorded before"
    print(f"{what} on {done.branch}: verdict {done.verdict}; {_signed(done.signer)}")


@app.command(rich_help_panel=HAND)
def promote(
    key: Key = None,
    merge: Annotated[
        bool, typer.Option(help="Also merge the promoted run into the branch that is checked out.")
    ] = False,
) -> None:
    """Record this run on `runs/<id>` and register its model, if the verdict allows it; your branch stays as it is."""
    from onestep.provenance.signing import find_key
    from onestep.registry.merge import merge as merge_run
    from onestep.registry.promotion import promote as run

    project = here()
    promotion = run(project, find_key(project, key))
    print(f"promoted {promotion.version_tag}: recorded on {promotion.branch}; {_signed(promotion.signer)}")
    if merge:
        merge_run(project, promotion.branch)
    else:
        print(f"to take it into your branch: git merge {promotion.branch}")


@app.command(rich_help_panel=HAND)
def rollback(
    version: Annotated[str, sentence("onestep@v1.0.0, or v1.0.0")],
    reason: Annotated[str, sentence("Why; it is kept in the ledger for ever.", option=True)],
    key: Key = None,
    merge: Annotated[bool, typer.Option(help="Also take the pin for later runs into the branch checked out.")] = False,
) -> None:
    """Put an earlier version into production again: a new stage tag, and an entry in the ledger."""
    from onestep.provenance.signing import find_key
    from onestep.registry.merge import merge as merge_run
    from onestep.registry.rollback import rollback as run

    project = here()
    done = run(project, version, reason, find_key(project, key))
    before = f" instead of {done.previous.version_tag}" if done.previous else ""
    print(f"{done.version_tag} is in production again{before} ({done.stage_tag}); {_signed(done.signer)}")
    if merge:
        merge_run(project, done.branch)
    else:
        print(f"so that later runs are judged against it: git merge {done.branch}")


@app.command(rich_help_panel=HAND)
def gc(
    cloud: Annotated[bool, typer.Option("--cloud", help="Also in the default DVC remote.")] = False,
    dry: Annotated[bool, typer.Option("--dry", help="Say what would go, and remove nothing.")] = False,
) -> None:
    """`dvc gc` that never removes what a registered version or a recorded run needs."""
    from onestep.registry.gc import collect_garbage, missing

    project = here()
    kept = collect_garbage(project, cloud, dry)
    print(f"kept all that the working copy, {len(kept)} recorded runs, all tags, branches and experiments need")
    for title, paths in missing(project).items():
        print(f"already missing of {title}: {', '.join(paths[:3])} ({len(paths)} in all)", file=sys.stderr)


def _signed(signer: Any) -> str:
    if signer is not None:
        return f"signed by {signer.fingerprint}"
    print(
        "UNSIGNED: there is no key, so the record does not prove who wrote it (onestep keygen makes one)",
        file=sys.stderr,
    )
    return "UNSIGNED"
