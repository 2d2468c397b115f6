"""The training loop. It reads top to bottom: batch, loss, gradient, clip, decide, step, record.

A finite gradient is always applied, however large; a non-finite one never reaches the weights; and
every batch becomes exactly one :class:`~signscope.records.StepRecord`.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from core.config import RunConfig
from core.corpus.batching import Batch, Split, TrainingData
from core.corpus.prefetch import prefetch
from core.errors import CheckpointError, DeviceError
from core.landmarks.normalize import normalize
from core.model.decoding import blank_fraction
from core.model.draws import WeightsFrom
from core.model.losses import ctc_losses
from core.model.teacher import Teacher
from core.training.checkpoint import (
    BestEpoch,
    Checkpoint,
    CheckpointState,
    CheckpointStore,
    snapshot_tensors,
)
from core.training.device import ComputeMode, is_out_of_memory, memory_mib, pinned
from core.training.evaluation import evaluate
from core.training.policy import UpdatePolicy
from core.training.schedule import learning_rate
from signscope.errors import LedgerError, SignScopeError
from signscope.ledger import Ledger
from signscope.norms import (
    ConsumedGradientAudit,
    GradientNorms,
    clip_and_measure_,
    clip_overflowed_,
    non_finite_tensors,
    numbers,
)
from signscope.records import (
    Evaluation,
    EventKind,
    Outcome,
    RunEventRecord,
    StepRecord,
    TrainingObserver,
)
from signscope.run_state import RunControl, RunEvent
from signscope.tally import Tally

MAX_NAMED_TENSORS = 8
"""Non-finite parameter tensors named in a row; more are counted."""


class Trainer:
    """One run of training, from its first batch or from a checkpoint, in the calling thread.

    Args:
        config: All settings.
        data: Batches, splits and vocabulary.
        mode: Device, precision and determinism.
        policy: What is done with a gradient; ``clip_policy`` in all normal training.
        control: State shared with whoever starts, pauses and stops the run.
        ledger: Gets every record.
        checkpoints: Gets every checkpoint.
        observers: Get every record after the ledger.
        provenance: Fields of a checkpoint that do not change during a run.
        max_steps: Batches after which the run ends as if its epochs were done; None for no limit.
    """

    def __init__(
        self,
        config: RunConfig,
        data: TrainingData,
        *,
        mode: ComputeMode,
        policy: UpdatePolicy,
        control: RunControl,
        ledger: Ledger,
        checkpoints: CheckpointStore,
        observers: Sequence[TrainingObserver],
        provenance: Mapping[str, object],
        max_steps: int | None = None,
    ) -> None:
        self._config = config
        self._data = data
        self._mode = mode
        self._policy = policy
        self._control = control
        self._ledger = ledger
        self._checkpoints = checkpoints
        self._observers = observers
        self._provenance = provenance
        self.step = 0
        self.epoch = 1
        self.batch_idx = 0
        self.applied = 0
        self.best_wer = math.inf
        self._best_loss = math.inf
        self._non_finite_streak = 0
        self._tally = Tally()
        self._max_steps = max_steps
        self._total_steps = config.optim.epochs * data.batches_per_epoch
        self._last_checkpoint_s = time.monotonic()
        self._last_checkpoint_step = -1
        self._ledger_error: LedgerError | None = None
        self._half_updated = False

        self._generator = torch.Generator().manual_seed(config.seed)
        with WeightsFrom(self._generator):
            self.model = Teacher(config.model, data.vocabulary.size)
        self.model.to(mode.device)
        if mode.device.type != "cpu":  # dropout draws where the numbers are
            self._generator = torch.Generator(mode.device).manual_seed(config.seed)
        optim = config.optim
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=optim.lr,
            betas=(optim.beta1, optim.beta2),
            weight_decay=optim.weight_decay,
            fused=True,
        )
        self._audit = ConsumedGradientAudit(self.optimizer)
        self._average = (
            AveragedModel(
                self.model,
                multi_avg_fn=get_ema_multi_avg_fn(optim.ema_decay),  # type: ignore[no-untyped-call]
            )
            if optim.ema_decay
            else None
        )

    def run(self) -> bool:
        """Train until the last epoch is done (True) or a stop was asked for (False)."""
        for observer in self._observers:
            observer.on_run(self._config.optim.epochs, self._data.batches_per_epoch)
        while self.epoch <= self._config.optim.epochs and not self._at_limit():
            if not self._train_epoch():
                self.save_checkpoint()
                return False
        return True

    def evaluate(
        self, split: Split, keep_going: Callable[[], bool] = lambda: True
    ) -> Evaluation | None:
        """Evaluate "dev" or "test" with the weights of now (their average, where there is one).

        Raises:
            DeviceError: Memory ran out.
        """
        try:
            return evaluate(
                cast(Teacher, self._average.module) if self._average is not None else self.model,
                self._data.eval_batches(split),
                self._data.vocabulary,
                self._mode,
                split,
                keep_going,
            )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(
                f"Evaluating the {split} split ran out of memory",
                subject=str(self._mode.device),
                hint="The checkpoint keeps the work: close other programs and resume the run.",
            ) from error

    def event(self, kind: EventKind, text: str) -> None:
        """Record something that is not a batch."""
        record = RunEventRecord(self.step, kind, text, time.time())
        self._account(lambda: self._ledger.append_event(record))
        for observer in self._observers:
            observer.on_event(record)

    # ------------------------------------------------------------------ one epoch

    def _train_epoch(self) -> bool:
        """Train and evaluate one epoch; give False when a stop was asked for."""
        epoch_batches = self._data.train_batches(self.epoch, self.batch_idx)
        ready_batches = pinned(epoch_batches, self._mode.device)
        with prefetch(ready_batches, self._config.data.prefetch) as batches:
            waiting_since_s = time.perf_counter()
            for batch in batches:
                data_s = time.perf_counter() - waiting_since_s
                self._record_step(self._train_batch(batch, data_s))
                if not self._at_batch_boundary():
                    return False
                if self._at_limit():
                    break
                waiting_since_s = time.perf_counter()
        return self._finish_epoch()

    def _finish_epoch(self) -> bool:
        dev: Evaluation | None = None
        if self._data.has_dev:
            try:
                dev = self.evaluate("dev", keep_going=self._at_batch_boundary)
            except DeviceError:
                self.save_checkpoint()
                raise
            if dev is None:
                return False
        record = self._tally.epoch_record(self.epoch, wall_time=time.time(), dev=dev)
        self._account(lambda: self._ledger.append_epoch(record))
        for observer in self._observers:
            observer.on_epoch(record)
        self.epoch += 1
        self.batch_idx = 0
        self._tally = Tally()
        self.save_checkpoint(best=dev is not None and self._is_best(dev))
        return True

    def _is_best(self, dev: Evaluation) -> bool:
        # Many epochs may reach the same WER on a small dev split; the surer of them generalises better.
        improved = (dev.errors.wer, dev.loss) < (self.best_wer, self._best_loss)
        if improved:
            self.best_wer, self._best_loss = dev.errors.wer, dev.loss
        return improved

    def _at_limit(self) -> bool:
        return self._max_steps is not None and self.step >= self._max_steps

    # ------------------------------------------------------------------ one batch

    def _train_batch(self, batch: Batch, data_s: float) -> StepRecord:
        started_s = time.perf_counter()
        lr = learning_rate(self.applied, self._total_steps, self._config.optim)
        loss, norms, blank = math.nan, GradientNorms(math.nan, math.nan, 1.0), math.nan
        try:
            loss, norms, blank = self._backward(batch)
            outcome = self._policy.decide(loss, norms.pre)
            detail = self._explain(outcome, loss, norms)
            if outcome.applied:
                self._apply(lr, norms)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            outcome, detail = Outcome.FAILED_OUT_OF_MEMORY, f"out of memory: {error}"
        self.optimizer.zero_grad(set_to_none=True)
        glosses = int(batch.target_lengths_B.sum())
        return StepRecord(
            step=self.step,
            epoch=self.epoch,
            batch_idx=self.batch_idx,
            loss=loss,
            loss_per_gloss=loss * len(batch.sample_ids) / glosses,
            grad_norm_pre=norms.pre,
            grad_norm_post=norms.post,
            clip_coef=norms.clip_coef,
            lr=lr,
            outcome=outcome,
            sample_ids=batch.sample_ids,
            frames=batch.frames,
            glosses=glosses,
            blank_fraction=blank,
            data_s=data_s,
            step_s=time.perf_counter() - started_s,
            memory_mib=memory_mib(self._mode.device),
            wall_time=time.time(),
            detail=detail,
        )

    def _backward(self, batch: Batch) -> tuple[float, GradientNorms, float]:
        """Leave clipped gradients in the parameters; give loss, norms and share of blank frames."""
        device = self._mode.device
        landmarks = normalize(
            batch.landmarks_BTKC.to(device, non_blocking=True),
            batch.lengths_B.to(device, non_blocking=True),
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=self._mode.autocast):
            out = self.model(landmarks, batch.lengths_B, self._generator)
        loss = ctc_losses(
            out.log_probs_BEV.transpose(0, 1),
            batch.targets,
            out.lengths_B,
            batch.target_lengths_B,
            route=self._mode.ctc_route,
        ).mean()
        torch.autograd.backward(loss)
        measured = clip_and_measure_(self.model.parameters(), self._policy.max_norm)
        blank = blank_fraction(out.log_probs_BEV, out.mask_BE)
        # The step's one read of the device: the decision below needs these numbers on the host.
        loss_value, pre, post, blank_value = torch.stack(
            [loss.detach(), measured.pre, measured.post, blank]
        ).tolist()
        norms = numbers(pre, post, self._policy.max_norm)
        if math.isfinite(loss_value) and not norms.finite:
            norms = clip_overflowed_(self.model.parameters(), self._policy.max_norm) or norms
        return loss_value, norms, blank_value

    def _apply(self, lr: float, norms: GradientNorms) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self._audit.recorded_post = norms.post
        self._half_updated = True
        self.optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.model)
        self._half_updated = False
        self.applied += 1

    def _explain(self, outcome: Outcome, loss: float, norms: GradientNorms) -> str:
        if outcome is Outcome.SKIPPED_BY_POLICY:
            return f"skipped by the policy {self._policy.name}"
        if outcome.applied:
            return ""
        names = non_finite_tensors(self.model.named_parameters())
        if not names:
            return f"non-finite loss {loss}, gradients finite"
        named = ", ".join(names[:MAX_NAMED_TENSORS])
        more = (
            f" and {len(names) - MAX_NAMED_TENSORS} more" if len(names) > MAX_NAMED_TENSORS else ""
        )
        what = "loss" if outcome is Outcome.SKIPPED_NON_FINITE_LOSS else "gradient"
        return f"non-finite {what}; non-finite gradients in {named}{more}"

    def _record_step(self, record: StepRecord) -> None:
        self._account(lambda: self._ledger.append(record))
        self._tally.add(record)
        self.step += 1
        self.batch_idx += 1
        self._non_finite_streak = self._non_finite_streak + 1 if record.outcome.non_finite else 0
        for observer in self._observers:
            observer.on_step(record)
        self._alert(record)

    def _alert(self, record: StepRecord) -> None:
        """Pause where going on would only repeat the trouble, and say what to look at."""
        if self._half_updated:
            raise DeviceError(
                "Memory ran out while the weights were being updated, so some may be changed and some not",
                subject=f"batch {record.batch_idx} of epoch {record.epoch}",
                hint="These weights are not kept. Close other programs or choose a smaller model, and "
                "resume the run: it goes on from its last checkpoint.",
            )
        if record.outcome is Outcome.FAILED_OUT_OF_MEMORY:
            self._pause_with_alert(
                f"Batch {record.batch_idx} did not fit in memory ({record.frames} frames). The run is "
                "paused; close other programs and resume, or stop and choose a smaller batch_size."
            )
        elif self._non_finite_streak == self._config.optim.non_finite_pause:
            self._non_finite_streak = 0
            self._pause_with_alert(
                f"{self._config.optim.non_finite_pause} batches in a row were not finite; the last: "
                f"{record.detail}; samples {', '.join(record.sample_ids[:4])} ... The run is paused. "
                "Look at these samples and at the learning rate before you resume."
            )

    def _pause_with_alert(self, text: str) -> None:
        self.event(EventKind.ALERT, text)
        self._control.apply_if_allowed(RunEvent.PAUSE)

    # ------------------------------------------------------------------ between batches

    def _at_batch_boundary(self) -> bool:
        """Checkpoint, rest and report as asked; give False when a stop was asked for."""
        if self._checkpoint_due():
            self.save_checkpoint()
        trouble = self._checkpoints.take_error() or self._ledger_error
        if trouble is not None:
            self._pause_with_alert(f"{trouble} The run is paused.")
        while self._control.wants_pause():
            trouble = self._rest(trouble)
        return not self._control.wants_stop()

    def _rest(self, trouble: SignScopeError | None) -> SignScopeError | None:
        """Pause with everything on the disk. What could not be written is tried again on resuming.

        Takes, and gives, what keeps the run from being written and was told already.
        """
        if trouble is None:
            trouble = self._write_now()
            if trouble is not None:
                self._pause_with_alert(str(trouble))
        self.event(EventKind.PAUSED, f"Paused after {self.step} batches")
        self._control.wait_while_paused()
        if self._control.wants_stop():
            return trouble
        if trouble is not None:
            trouble = self._write_now()
        if trouble is not None:
            self._pause_with_alert(f"{trouble} The run is still paused.")
        else:
            self.event(EventKind.RESUMED, "Resumed")
        return trouble

    def _write_now(self) -> SignScopeError | None:
        """Bring ledger and checkpoint to the disk, as they are now; give what prevents it."""
        with contextlib.suppress(
            SignScopeError
        ):  # an earlier failure, made good below or told again
            self._checkpoints.wait()
        self.save_checkpoint()
        try:
            self._checkpoints.wait()
        except SignScopeError as error:
            return error
        self._ledger_error = None
        return None

    def _account(self, append: Callable[[], None]) -> None:
        """Write to the ledger. It keeps a row that it cannot write, and the next boundary pauses."""
        try:
            append()
        except LedgerError as error:
            self._ledger_error = error

    # ------------------------------------------------------------------ checkpoints

    def _checkpoint_due(self) -> bool:
        every = self._config.checkpoint.every_batches
        limit_s = 60 * self._config.checkpoint.every_minutes
        if self.step == self._last_checkpoint_step:  # evaluation has boundaries of its own
            return False
        return (every > 0 and self.step % every == 0) or (
            limit_s > 0 and time.monotonic() - self._last_checkpoint_s >= limit_s
        )

    def save_checkpoint(self, *, best: bool = False) -> None:
        """Copy everything the run needs to go on and hand it to the writing thread."""
        self._last_checkpoint_s = time.monotonic()
        self._last_checkpoint_step = self.step
        self._checkpoints.save(self._snapshot(), best=best)

    def _snapshot(self) -> Checkpoint:
        state = CheckpointState.model_validate(
            {
                "step": self.step,
                "epoch": self.epoch,
                "batch_idx": self.batch_idx,
                "applied": self.applied,
                "non_finite_streak": self._non_finite_streak,
                "best_wer": self.best_wer if math.isfinite(self.best_wer) else None,
                "best_loss": self._best_loss if math.isfinite(self._best_loss) else None,
                **self._provenance,
            }
        )
        return Checkpoint(state, snapshot_tensors(self._tensor_groups()))

    def _tensor_groups(self) -> dict[str, dict[str, Tensor]]:
        optimizer_state = self.optimizer.state_dict()["state"]
        groups = {
            "model": dict(self.model.state_dict()),
            "optimizer": {
                f"{index}.{name}": value
                for index, values in optimizer_state.items()
                for name, value in values.items()
            },
            "rng": {self._mode.device.type: self._generator.get_state()},
        }
        if self._average is not None:
            groups["average"] = dict(self._average.state_dict())
        return groups

    def restore(
        self,
        checkpoint: Checkpoint,
        rows_of_epoch: Sequence[StepRecord],
        best: BestEpoch | None,
    ) -> None:
        """Go on from a checkpoint, in the middle of its epoch if need be.

        Args:
            checkpoint: What ``save_checkpoint`` once wrote.
            rows_of_epoch: Ledger rows of the unfinished epoch, from which its counts are rebuilt.
            best: The best epoch before it whose weights are still there; None lets the next one be it.

        Raises:
            CheckpointError: The weights in it are for a model of another shape.
        """
        state = checkpoint.state
        try:
            self._load_tensors(checkpoint)
        except (RuntimeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"The checkpoint does not fit the model of these settings ({error})",
                subject=f"step {state.step}",
                hint="Resume with the settings that the run was made with (config.toml in its folder).",
            ) from error
        self.step, self.epoch, self.batch_idx = state.step, state.epoch, state.batch_idx
        self.applied = state.applied
        self.best_wer = math.inf if best is None else best.wer
        self._best_loss = math.inf if best is None else best.loss
        self._non_finite_streak = state.non_finite_streak
        self._tally = Tally()
        for record in rows_of_epoch:
            self._tally.add(record)
        # A checkpoint of another kind of device has no state for this one; that was said as a difference.
        drawn = checkpoint.group("rng").get(self._mode.device.type)
        if drawn is not None:
            self._generator.set_state(drawn)

    def _load_tensors(self, checkpoint: Checkpoint) -> None:
        self.model.load_state_dict(checkpoint.group("model"))
        if self._average is not None:
            self._average.load_state_dict(checkpoint.group("average"))
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in checkpoint.group("optimizer").items():
            index, _, key = name.partition(".")
            states.setdefault(int(index), {})[key] = tensor
        param_groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": states, "param_groups": param_groups})

    def load_weights(self, checkpoint: Checkpoint) -> None:
        """Take only the weights (and their average), to evaluate the best epoch."""
        self.model.load_state_dict(checkpoint.group("model"))
        if self._average is not None:
            self._average.load_state_dict(checkpoint.group("average"))
