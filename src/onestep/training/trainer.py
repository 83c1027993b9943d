"""The loop that every training stage shares: accelerate, seeds by step, averages, curves, sample sheets, exact resume.

A method says what one update is; this module says when updates happen and what is kept. The random numbers of an update
are derived anew from (seed, phase, step, process), so that a resumed run equals an unbroken one by construction.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from torch import Tensor

from onestep.training.resume import ResumePoint, flatten_optimizer, restore_optimizer
from onestep.training.watch import Watch, Watched


class TrainingFailed(RuntimeError):
    """Training cannot go on; the message says at which update and why."""


_GOOD = "good."  # prefix of the last good state among a resume point's tensors
SHEETS = "samples-*.png"  # the sample sheets, in the folder of the curves

LossOf = Callable[..., tuple[Tensor, dict[str, float]]]  # (x, text, random) → loss and numbers to plot


class Method(Protocol):
    """What a training stage does in one update; `loop.run` does the rest. One that is watched is also `Watched`."""

    modules: dict[str, Any]
    optimizers: dict[str, Any]
    averages: dict[str, Any]
    snapshots: dict[str, dict[str, Tensor]]  # named weights put aside for later
    rate: float  # factor on every learning rate; the watch lowers it after a collapse

    def update(self, step: int, batches: "Batches") -> dict[str, float]:
        """One optimiser step (all its micro-batches); returns the numbers to plot."""
        ...

    def preview(self) -> Tensor:
        """Latents `[N, C, T, H, W]` of a few fixed captions from fixed noise, for the sample sheet."""
        ...


def autocast_dtype(precision: str, device: torch.device) -> str:
    """Accelerate's name for the autocast type; `auto` is bf16 only where the hardware multiplies it natively.

    A CPU without AVX512-BF16 or AMX emulates bf16 hundreds of times slower than float32.
    """
    if precision != "auto":
        return {"fp32": "no", "bf16": "bf16"}[precision]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "no"


def make_accelerator(precision: str, accumulate: int) -> Accelerator:
    """An accelerator on whatever `accelerate launch` or `torchrun` set up, one process otherwise."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Accelerator(
        mixed_precision=autocast_dtype(precision, device),
        gradient_accumulation_steps=accumulate,
        cpu=device.type == "cpu",
        step_scheduler_with_optimizer=False,
    )


def seeded(*parts: object) -> torch.Generator:
    """A CPU generator whose state depends on the parts alone."""
    key = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8]) % (1 << 63))


class Source(Protocol):
    """Examples by position: latents with their text states, or pixels."""

    def __len__(self) -> int: ...

    def batch(self, positions: Sequence[int]) -> tuple[Tensor, ...]:
        """The tensors of these examples, each with the batch as its first axis."""
        ...


class Batches:
    """The micro-batches of one update: examples drawn without replacement from a shuffle that is anew for each epoch."""

    def __init__(self, source: Source, batch: int, accelerator: Accelerator, seed: int) -> None:
        self.source, self.batch, self.accelerator, self.seed = source, batch, accelerator, seed

    def __call__(self, step: int, micro: int, micros: int) -> tuple[Any, ...]:
        """The source's tensors and the random generator of one micro-batch of update `step`, for this process."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        start = ((step * micros + micro) * world + rank) * self.batch
        positions = [self._position(start + i) for i in range(self.batch)]
        tensors = self.source.batch(positions)
        return *(t.to(self.accelerator.device) for t in tensors), seeded(self.seed, step, micro, rank)

    def _position(self, number: int) -> int:
        epoch, place = divmod(number, len(self.source))
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            self._order = torch.randperm(len(self.source), generator=seeded(self.seed, "epoch", epoch)).tolist()
        return self._order[place]


@dataclass
class Plan:
    """What `run` keeps of a training run, and when."""

    stage: str
    request: Mapping[str, Any]  # settings and input fingerprints: what a resume must match
    updates: int
    samples_every: int
    checkpoint_every: int
    curves: Path  # folder of dvclive's curves and the sample sheets
    decode: Callable[[Tensor], Any]  # latents to uint8 clips, for the sample sheet
    captions: Sequence[str] = field(default_factory=list)


def run(method: Method, batches: Batches, plan: Plan, accelerator: Accelerator, watch: Watch | None = None) -> None:
    """Run the plan's updates, resuming where an interrupted run of the same request stopped.

    watch: looks at samples every so often, puts the best average's weights into `method.snapshots["best"]`, and rolls the
    run back where it collapses. Raises `TrainingFailed` on a number that is not finite, where no watch can roll it back,
    and `ResumeRefused` when the resume point is another run's.
    """
    point = ResumePoint(plan.stage, plan.request)
    history, good = _restore(method, point, watch, plan.curves if accelerator.is_main_process else None)
    live = _Curves(plan.curves, history) if accelerator.is_main_process else None
    if watch and not watch.looks:  # the start is a candidate too: a stage that does not help shall not harm
        _look(watch, 0, method)
        if watch.unmeasured:
            accelerator.print(
                f"{plan.stage}: looks go without {', '.join(watch.unmeasured)}: not measurable on this footage"
            )
    with _progress(plan, accelerator, len(history)) as show:
        while len(history) < plan.updates:
            history.append(method.update(len(history), batches))
            done = len(history)
            trouble = watch.trouble(history) if watch else _not_finite(history[-1])
            if trouble and watch is None:
                raise TrainingFailed(f"{plan.stage}: {trouble} at update {done - 1}: lower the learning rate")
            if watch and not trouble and watch.due(done, last=done == plan.updates):
                trouble = _look(watch, done, method)
                if not trouble:
                    watch.good_step, good = done, _copied(_tensors(method))
            if watch and trouble:
                accelerator.print(f"{plan.stage}: {trouble} at update {done}")
                if not watch.collapsed(done, trouble, cast(Watched, method)):
                    accelerator.print(
                        f"{plan.stage}: stopped after {watch.rollbacks} rollbacks; the best weights are kept"
                    )
                    break
                _roll_back(method, good)
                del history[watch.good_step :]
                live = _Curves(plan.curves, history) if live else None
                continue
            show(done)
            if live:
                live.add(history[-1])
                if done % plan.samples_every == 0 or done == plan.updates:
                    live.sheet(done, plan, method)
                if done % plan.checkpoint_every == 0 and done < plan.updates:
                    progress = {"history": history, "rate": method.rate, "watch": watch.progress() if watch else None}
                    groups = _tensors(method) | {f"{_GOOD}{name}": group for name, group in good.items()}
                    point.save(progress, groups, sorted(plan.curves.glob(SHEETS)))
            accelerator.wait_for_everyone()
    if live:
        live.end()


def _look(watch: Watch, step: int, method: Method) -> str | None:
    """One look at samples: the best weights so far are put aside; returns what is wrong with them, or None."""
    improved, trouble = watch.look(step, cast(Watched, method))
    if improved and watch.best:
        method.snapshots["best"] = _copied({"best": method.averages[watch.best["average"]].weights})["best"]
    return trouble


def accumulated(
    loss_of: LossOf,
    models: Sequence[torch.nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    accelerator: Accelerator,
    batches: Batches,
    step: int,
    micros: int,
) -> dict[str, float]:
    """One optimiser step over `micros` micro-batches; the numbers to plot, averaged over them."""
    totals: dict[str, float] = {}
    for micro in range(micros):
        with accelerator.accumulate(*models):
            with attention(accelerator.device):
                loss, numbers = loss_of(*batches(step, micro, micros))
                accelerator.backward(loss)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        for name, value in numbers.items():
            totals[name] = totals.get(name, 0.0) + value / micros
    return totals


def cooled(step: int, updates: int, share: float) -> float:
    """The factor on the learning rate at update `step`: 1, then falling linearly to a tenth over the last `share`."""
    begins = (1 - share) * updates
    return 1.0 if step < begins else 1 - 0.9 * (step - begins) / (updates - begins)


def set_rates(optimizers: Mapping[str, torch.optim.Optimizer], rates: Mapping[str, float], factor: float) -> None:
    """The learning rate of each optimiser that `rates` names, times the factor."""
    for name, rate in rates.items():
        for group in optimizers[name].param_groups:
            group["lr"] = rate * factor


def attention(device: torch.device) -> AbstractContextManager[Any]:
    """The attention kernel for steps with gradients: on a CPU the plain one (0.7 of the time on the bundled model)."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def finish(plan: Plan) -> None:
    """Forget the resume point: call once the outs are written."""
    ResumePoint(plan.stage, plan.request).clear()


def _tensors(method: Method) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {}
    for name, module in method.modules.items():
        groups[f"module.{name}"] = dict(module.state_dict())
    for name, optimizer in method.optimizers.items():
        groups[f"optimizer.{name}"] = flatten_optimizer(optimizer)
    for name, average in method.averages.items():
        groups[f"average.{name}"] = average.state_dict()
    for name, tensors in method.snapshots.items():
        groups[f"snapshot.{name}"] = tensors
    return groups


def _load(method: Method, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
    """The inverse of `_tensors`."""
    for name, module in method.modules.items():
        module.load_state_dict(groups[f"module.{name}"])
    for name, optimizer in method.optimizers.items():
        restore_optimizer(optimizer, groups.get(f"optimizer.{name}", {}))
    for name, average in method.averages.items():
        average.load_state_dict(groups[f"average.{name}"])
    prefix = "snapshot."
    method.snapshots = {name.removeprefix(prefix): dict(t) for name, t in groups.items() if name.startswith(prefix)}


def _copied(groups: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    return {group: {name: t.detach().clone() for name, t in tensors.items()} for group, tensors in groups.items()}


def _restore(
    method: Method, point: ResumePoint, watch: Watch | None, curves: Path | None
) -> tuple[list[dict[str, float]], dict[str, dict[str, Tensor]]]:
    """The history so far, and the last good state where a watch may need it; the sheets so far lie in `curves` again."""
    if curves:
        point.bring_back(curves, SHEETS)
    found = point.load()
    if found is None:
        return [], _copied(_tensors(method)) if watch else {}
    progress, groups = found
    _load(method, groups)
    method.rate = progress["rate"]
    if watch:
        watch.restore(progress["watch"])
    good = {name.removeprefix(_GOOD): tensors for name, tensors in groups.items() if name.startswith(_GOOD)}
    return list(progress["history"]), good


def _roll_back(method: Method, good: Mapping[str, Mapping[str, Tensor]]) -> None:
    """The last good state again, with the best weights found so far still put aside."""
    best = method.snapshots.get("best")
    _load(method, good)
    if best is not None:
        method.snapshots["best"] = best


def _not_finite(numbers: Mapping[str, float]) -> str | None:
    wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
    return f"{', '.join(wrong)} is not finite" if wrong else None


@contextmanager
def _progress(plan: Plan, accelerator: Accelerator, done: int) -> Iterator[Callable[[int], None]]:
    """The progress bar of the main process: call it with the updates done."""
    from rich.progress import Progress

    if done:
        accelerator.print(f"{plan.stage}: resumed at update {done} of {plan.updates}")
    with Progress(disable=not accelerator.is_main_process) as bar:
        task = bar.add_task(plan.stage, total=plan.updates, completed=done)
        yield lambda updates: bar.update(task, completed=updates)


class _Curves:
    """dvclive's curves, written anew from the history on a resume, so that no point stands twice."""

    def __init__(self, folder: Path, history: Sequence[Mapping[str, float]]) -> None:
        from dvclive import Live
        from scmrepo.exceptions import SCMError

        self.folder = folder
        try:
            self.live = Live(dir=str(folder), save_dvc_exp=False, dvcyaml=None, report=None, cache_images=False)
        except SCMError as error:
            raise TrainingFailed(
                f"dvclive cannot name this run ({error}): a git repository needs at least one commit, "
                "so run `git commit` first"
            ) from error
        for numbers in history:
            self.add(numbers)

    def add(self, numbers: Mapping[str, float]) -> None:
        for name, value in sorted(numbers.items()):  # JSON forgets their order, and a resume must not show
            self.live.log_metric(name, value)
        self.live.next_step()

    def sheet(self, step: int, plan: Plan, method: Method) -> None:
        from onestep.media.pictures import contact_sheet

        clips = plan.decode(method.preview())
        contact_sheet(list(zip(plan.captions, clips, strict=True)), self.folder / f"samples-{step:05d}.png")

    def end(self) -> None:
        self.live.end()
