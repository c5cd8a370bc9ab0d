"""What a stage begins with: a model whose weights are all trained, or an adapter on frozen weights that are shared.

A stage with an adapter goes on with its start's where that has the same shape (rank, alpha, dora, targets): all stages
then share one base, and each leaves a small folder. Otherwise its base is the start with what that has merged.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from crawl2chat.model import Transformer, load_model
from crawl2chat.model.adapters import AdaptedTransformer, Adapter, AdapterShape, has_adapter, read_adapter
from crawl2chat.model.huggingface import model_folder, open_weights, read_config
from crawl2chat.train.settings import LoraSettings


class Start:
    """The model in a stage's folder, to be measured (`reference`) and to be trained from (`trainable`).

    With an adapter all models that come from one start hold the same frozen tensors; without, each has its own.
    """

    def __init__(self, folder: Path, settings: LoraSettings, *, device: str = "cpu") -> None:
        self.folder, self.settings, self.device = folder, settings, device
        self.adapter: Adapter | None = None
        self.frozen: Transformer | None = None  # the base, whose tensors all share
        if not settings.rank:
            self.reference = load_model(folder, device=device)
            return
        place = model_folder(folder)
        self.shape = shape_of(settings)
        if has_adapter(place) and (adapter := read_adapter(place)).shape == self.shape:
            self.adapter = adapter
        self.base = self.adapter.base if self.adapter and self.adapter.base else place
        frozen = load_model(self.base, device=device)
        in_bf16 = keep_in_bf16(self.base, settings)
        if in_bf16:
            halve(frozen, settings.targets)
        self.frozen = frozen
        plain = self.adapter is None and not in_bf16  # modules with nothing to add
        self.reference = frozen.requires_grad_(False) if plain else self.trainable(0).requires_grad_(False).eval()

    def trainable(self, seed: int) -> Transformer:
        """A model that begins as the start is; seed: of an adapter's first numbers."""
        if not self.settings.rank:
            return load_model(self.folder)
        assert self.frozen
        model = AdaptedTransformer.on(self.frozen, self.shape, self.base)
        return model.load_adapter(self.adapter.tensors) if self.adapter else model.initialise(seed)


def shape_of(settings: LoraSettings) -> AdapterShape:
    return AdapterShape(settings.rank, settings.scale, settings.dora, tuple(settings.targets))


def keep_in_bf16(base: Path, settings: LoraSettings) -> bool:
    """Whether frozen matrices are held in bf16: as asked, or where they are stored so and nothing is merged."""
    if settings.frozen != "auto":
        return settings.frozen == "bf16"
    return not has_adapter(base) and open_weights(base, read_config(base)).stored_dtype() == torch.bfloat16


def halve(model: Transformer, targets: Sequence[str]) -> None:
    """Round the matrices that an adapter is put on to bf16, in place; embedding and norms stay as they are."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in targets:
            module.weight.data = module.weight.data.to(torch.bfloat16)
