"""One look at every stage of a plan before anything is spent on it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from roboref_core.progress import Progress
from roboref_core.prompting.conventions import Convention
from roboref_core.seeds import rng_of
from torch import nn

from offline.data_engine.task_files import turns
from offline.train.dataset import Item, TrainData, collator
from offline.train.families.base import Reader
from offline.train.families.roborefer.examples import IGNORE
from offline.train.metrics import check_reporting
from offline.train.network import Network, load_network, merged
from offline.train.plan import PARTS, Part, Plan, Schedule, Segment
from offline.train.registry import Term, terms_of
from offline.train.run import resolve, stage_data
from offline.train.run_folder import RunFolder
from offline.train.speed import parameter_table

# Largest value of each convention's coordinates; pixels are not bounded here.
_FULL_SCALE = {Convention.NORMALISED: 1.0, Convention.THOUSAND: 1000.0}
# Numbers in brackets: points, boxes, and the points of trajectories, in tuples or in JSON.
_NUMBERS = re.compile(r"[\[(]\s*-?\d[\d.]*(?:\s*,\s*-?\d[\d.]*)+\s*[\])]")


@dataclass
class Report:
    """What was seen, and what is wrong."""

    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def text(self) -> str:
        verdict = [f"WRONG: {error}" for error in self.errors] or ["nothing wrong found"]
        return "\n".join([*self.lines, *verdict])


def check(plan: Plan, samples: int = 8, with_model: bool = True) -> Report:
    """Look at ``samples`` random samples of each data set of each stage and, if asked to, run one batch of them.

    Raises ValueError if plan, registry or base checkpoint cannot be read at all.
    """
    report = Report()
    try:
        check_reporting(plan)
        RunFolder(plan.output).refuse_foreign()
    except ValueError as error:
        report.errors.append(str(error))
    data = stage_data(plan)
    schedule = resolve(plan, data)
    start = 0
    for index, stage in enumerate(plan.stages):
        until = schedule.until[index]
        used = (until - start) * plan.batch
        size = data[index].order.epoch_size
        report.lines.append(
            f"stage {stage.name}: steps {start + 1} to {until}, {used} samples of {size} ({used / size:.2f} epochs), "
            f"trains {', '.join(stage.train)} at {' '.join(f'{schedule.lr(p, until - 1):.2g}' for p in stage.train)}"
            " in its last step"
        )
        start = until
        items: list[Item] = []
        for term in terms_of(plan, stage):
            items += _check_data(data[index], term, samples, plan.seed, report)
        if with_model and items and _segment_of(schedule, until - 1).stages[0] == index:
            _check_model(plan, stage.train, data[index], items, report)
    return report


def _check_data(data: TrainData, term: Term, samples: int, seed: int, report: Report) -> list[Item]:
    count = next(len(source.lengths) for source in data.order.sources if source.name == term.name)
    chosen = rng_of(seed, "check", term.name).permutation(count)[:samples]
    refused, remarkable = data.forms(term.name)
    report.errors += [f"{places[0]}: {form}{_others(places, count)}" for form, places in refused.items()]
    known = {f"{place}: {form}" for form, places in refused.items() for place in places}
    items: list[Item] = []
    asked = ""
    for index in Progress(chosen.tolist(), desc=term.name, leave=False, disable=None):
        where, sample = data.sample((term.name, index))
        try:
            item = data.item((term.name, index))
        except ValueError as error:
            if str(error) not in known:
                report.errors.append(str(error))
            continue
        assert isinstance(sample, dict)
        if not items:
            asked = turns(sample, "human")[0]
        items.append(item)
        report.errors += [f"{where}: {problem}" for problem in _problems(sample, item, term, data.reader)]
    notes = [f"    {form}: {places[0]}{_others(places, count)}" for form, places in remarkable.items()]
    if items:
        lengths = [item.counts.text + item.counts.visual for item in items]
        pictures = [item.counts.pictures for item in items]
        first = items[0].example
        learned = data.reader.tokenizer.decode(first.labels[first.labels != IGNORE])
        kind = "RGB-D" if term.entry.depth_root else "RGB"
        report.lines += [
            f"  {term.name}: {count} samples, {kind}, weight {term.weight:g}, share {term.share:g}; of {len(items)}: "
            f"{min(lengths)} to {max(lengths)} positions (limit {data.reader.limit}), "
            f"{min(pictures)} to {max(pictures)} pictures",
            f"    asks:  {asked!r:.100}",
            f"    learns: {learned!r:.100}",
        ]
    report.lines += notes
    return items


def _segment_of(schedule: Schedule, step: int) -> Segment:
    segment = schedule.segment_at(step)
    assert segment is not None
    return segment


def _others(places: Sequence[str], count: int) -> str:
    return f" (and {len(places) - 1} more of {count} samples)" if len(places) > 1 else ""


def _problems(sample: dict, item: Item, term: Term, reader: Reader) -> list[str]:
    found = []
    labels, counts = item.example.labels, item.counts
    learned = reader.tokenizer.decode(labels[labels != IGNORE])
    answers = [answer.strip() for answer in turns(sample, "gpt")]
    if missing := [answer for answer in answers if answer not in learned]:
        found.append(f"answer {missing[0]!r:.60} is not what is supervised: {learned!r:.80}")
    scale = _FULL_SCALE.get(term.entry.convention)
    for answer in answers:
        if scale is None:
            break
        for group in _NUMBERS.findall(answer):
            numbers = [float(number) for number in group[1:-1].split(",")]
            # Points and boxes have an even number of coordinates; an odd number is something else.
            if len(numbers) % 2 == 0 and not all(0 <= number <= scale for number in numbers):
                found.append(f"{group} lies outside [0, {scale:g}], its convention is {term.entry.convention.value}")
    if (lost := int((labels[1:] != IGNORE).sum()) - counts.supervised) > 0:
        found.append(f"{counts.visual + counts.text} positions, {lost} label tokens lie beyond {reader.limit}")
    return found + reader.problems(item.example)


def _check_model(plan: Plan, parts: Sequence[str], data: TrainData, items: list[Item], report: Report) -> None:
    network = load_network(plan, tuple(parts), None)
    network.train()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    items = items[: plan.micro_batch]
    batch = collator(data.reader)(items)
    dtypes = _watch_norms(network)
    with torch.autocast(device.type, torch.bfloat16, enabled=plan.precision == "bf16" and not plan.zero):
        loss = network(batch.batch, batch.supervised)
    loss.backward()
    if not torch.isfinite(loss):
        report.errors.append(f"loss is {loss.item()}")
    if mixed := sorted({f"{name}: {a} in, {b} out" for name, a, b in dtypes if a != b}):
        if plan.zero:
            report.errors.append(f"{len(mixed)} layer norms change the dtype, first {mixed[0]}")
        else:
            report.lines.append(f"    layer norms compute in float32 under autocast ({len(mixed)} of them)")
    for part in PARTS:
        _check_gradients(network, part, report)
    for name, total, learning in parameter_table(network):
        report.lines.append(f"    {name:16} {total / 1e6:10.2f} M parameters, {learning / 1e6:10.2f} M learn")
    memory = _memory_estimate(plan, network) / 1e9
    report.lines.append(
        f"    loss {loss.item():.4f}; weights, gradients and optimizer take {memory:.2f} GB in all; activations on top"
    )
    _check_save(plan, network, report)


def _watch_norms(network: Network) -> list[tuple[str, torch.dtype, torch.dtype]]:
    seen: list[tuple[str, torch.dtype, torch.dtype]] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("RMSNorm"):
            module.register_forward_hook(
                lambda _, inputs, output, name=name: seen.append((name, inputs[0].dtype, output.dtype))
            )
    return seen


def _check_gradients(network: Network, part: Part, report: Report) -> None:
    for name, parameter in network.held[part]:
        if parameter.grad is not None and not parameter.requires_grad:
            report.errors.append(f"{name} is frozen but gets a gradient")
        elif parameter.requires_grad and parameter.grad is None:
            report.errors.append(f"{name} is to learn but gets no gradient")
        elif parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            report.errors.append(f"{name}: gradient is not finite")


def _memory_estimate(plan: Plan, network: Network) -> float:
    """Bytes of weights, gradients and AdamW's state, before ZeRO shares them out."""
    total = sum(p.numel() for p in network.parameters())
    learning = sum(p.numel() for p in network.parameters() if p.requires_grad)
    if plan.zero and plan.precision == "bf16":
        return 2 * total + (2 + 4 + 8) * learning
    return 4 * total + (4 + 8) * learning


def _check_save(plan: Plan, network: Network, report: Report) -> None:
    state, family = merged(network.state_dict(), plan.lora), network.family
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        family.write(network.model, state, plan.model, target, plan.image_aspect_ratio)
        again = family.load(target, next(iter(state.values())).dtype, plan.model_max_length)
    unused = {id(parameter) for parameter in family.unused(again)}
    tensors = {name: p for name, p in again.named_parameters(remove_duplicate=False) if id(p) not in unused}
    if wrong := [name for name, tensor in tensors.items() if not torch.equal(tensor, state[name].cpu())]:
        report.errors.append(f"{len(wrong)} tensors change when saved and loaded, first {wrong[0]}")
