"""Is the ledger whole, and do ledger, tags and record name the same model?"""

from onestep.core.paths import PRODUCTION, RUNS
from onestep.provenance import ledger
from onestep.provenance.check import CheckContext, CheckFailed
from onestep.provenance.entries import LedgerBroken, Promotion, Rollback, Verdict
from onestep.provenance.signing import SigningError, tag_signer, trusted
from onestep.provenance.store import load
from onestep.vcs.versions import assignments, versions


def heads_are_carried(context: CheckContext) -> str:
    """Every head that the record, a tag or a branch `runs/*` carries is in the ledger: its tail was not cut off."""
    carried = {f"the record of {context.found.title}": context.record.ledger_head} | _carried(context)
    for name, head in carried.items():
        try:
            ledger.require_contains(context.entries, head)
        except LedgerBroken as error:
            raise CheckFailed(f"{error}; {name} carries it") from error
    return f"{len(carried)} heads are carried by the record, tags and runs"


def ledger_knows_the_run(context: CheckContext) -> str:
    """The ledger has the verdict of this run, on this model."""
    record = context.record
    for entry in context.entries:
        content = entry.content
        if not isinstance(content, Verdict) or content.run != record.run:
            continue
        if content.model_sha256 != record.sha256:
            raise CheckFailed(
                f"entry {entry.index} is on a model with sha256 {content.model_sha256}, not {record.sha256}"
            )
        if (content.verdict, content.verdict_sha256) != (record.verdict.verdict, record.verdict.sha256):
            raise CheckFailed(
                f"entry {entry.index} says {content.verdict!r} (sha256 {content.verdict_sha256[:12]}), "
                f"the record {record.verdict.verdict!r} (sha256 {record.verdict.sha256[:12]})"
            )
        return f"entry {entry.index} has the verdict of run {record.run}: {content.verdict}"
    raise CheckFailed(f"no entry has the verdict of run {record.run}: it was removed, or never entered")


def tags_name_the_run(context: CheckContext) -> str:
    """Each version and stage of this model stands where the ledger put it, under a signature like the record's."""
    model = context.record.model
    entries = ((entry.index, entry.content) for entry in context.entries)
    moves = [(index, content) for index, content in entries if isinstance(content, Promotion | Rollback)]
    for index, content in moves:
        if content.run != context.record.run and content.record != context.found.envelope_sha256:
            continue
        _require_at(context, content.tag, index, content.record)
    tags = [known.tag for known in versions(context.project.git, model) if known.commit == context.found.commit]
    given = assignments(context.project.git, model)
    tags += [known.tag for known in given if known.commit == context.found.commit]
    for tag in tags:
        _require_own(context, tag)
    for known in versions(context.project.git, model):
        if known.tag in tags and not any(move.tag == known.tag for _, move in moves):
            raise CheckFailed(
                f"the ledger has no promotion of {known.tag}: the tag was set by hand, or the entry removed"
            )
    _require_last(context, [move.tag for _, move in moves])
    return f"{len(tags)} tags name this run: {', '.join(tags)}" if tags else "none: this run was not promoted"


def _require_at(context: CheckContext, tag: str, index: int, envelope_sha256: str | None) -> None:
    """A version tag is where the promotion put it."""
    commit = context.project.git.resolve(f"refs/tags/{tag}^{{commit}}")
    if commit is None:
        raise CheckFailed(
            f"entry {index} of the ledger promotes {tag}, and there is no such tag: it was removed, not fetched, "
            "or the promotion was cut off (onestep promote completes it)"
        )
    there = load(context.project, tag, commit, context.record.model)
    if there is None or (envelope_sha256 is not None and there.envelope_sha256 != envelope_sha256):
        raise CheckFailed(
            f"{tag} was moved: entry {index} of the ledger promotes another record than the one at {commit[:12]}"
        )


def _require_own(context: CheckContext, tag: str) -> None:
    """An annotated tag of its own name, for this model, signed by the record's signer or a trusted key."""
    repository = context.project.git
    if repository.git("cat-file", "-t", f"refs/tags/{tag}") != "tag":
        raise CheckFailed(
            f"{tag} is a plain tag, which carries neither signature nor model: it was moved or set by hand"
        )
    content = repository.git_bytes("cat-file", "tag", f"refs/tags/{tag}").decode()
    header, _, message = content.partition("\n\n")
    named = next((line.removeprefix("tag ") for line in header.splitlines() if line.startswith("tag ")), "")
    if named != tag:
        raise CheckFailed(f"{tag} was moved: the tag object behind it was made for {named}")
    said = dict(line.split(": ", 1) for line in message.splitlines() if ": " in line)
    if said.get("sha256") != context.record.sha256 or said.get("run") != context.record.run:
        raise CheckFailed(f"{tag} was moved: it names run {said.get('run')} and is set on run {context.record.run}")
    try:
        signer = tag_signer(content)
    except SigningError as error:
        raise CheckFailed(f"the signature of {tag}: {error}") from error
    if context.found.signer is None:
        return
    if signer is None:
        raise CheckFailed(f"{tag} is not signed, its record is: it was moved or set by hand")
    if not trusted(signer, context.keys or (context.found.signer,)):
        raise CheckFailed(f"{tag} is signed by another key, {signer.fingerprint}, which is not a trusted one")


def _require_last(context: CheckContext, moves: list[str]) -> None:
    """The stage tag with the highest number is the ledger's last promotion or rollback."""
    given = [known for known in assignments(context.project.git, context.record.model) if known.stage == PRODUCTION]
    if not given or not moves:
        return
    last = max(given, key=lambda known: known.number)
    commit = context.project.git.resolve(f"refs/tags/{moves[-1]}^{{commit}}")
    if last.assigned and commit is not None and last.commit != commit:
        raise CheckFailed(
            f"{last.tag} is set on {last.commit[:12]}, and the ledger's last move put {moves[-1]} into {PRODUCTION}: "
            "a tag was moved or removed, or the last promotion was cut off (onestep promote completes it)"
        )


def _carried(context: CheckContext) -> dict[str, str]:
    """The heads in the messages of tags and of the commits of `runs/*`, by who carries them."""
    repository, model = context.project.git, context.record.model
    found: dict[str, str] = {}
    for tag in (*repository.tags(f"{model}@*"), *repository.tags(f"{model}#*")):
        if head := ledger.carried_head(repository.tag_message(tag)):
            found[tag] = head
    format_ = "%(refname)%00%(contents)%00%01"
    listed = repository.refs(format_, f"refs/heads/{RUNS}", *repository.on_remotes(RUNS))
    for entry in listed.split("\0\1"):
        ref, _, message = entry.strip("\n").partition("\0")
        if head := ledger.carried_head(message):
            found[ref.removeprefix("refs/heads/").removeprefix("refs/remotes/")] = head
    return found
