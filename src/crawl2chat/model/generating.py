"""Loading a model to generate with, in the form in which its weights are to be kept."""

from pathlib import Path

import torch

from crawl2chat.model.huggingface import load_model, model_folder, open_weights, read_config
from crawl2chat.model.matrices import WeightForm
from crawl2chat.model.transformer import Transformer
from crawl2chat.stages.files import AnyPath, StageError

ADAPTER = "adapter_config.json"  # a folder with it holds changes to another folder's weights


def load_to_generate(
    folder: AnyPath, weights: WeightForm | None = None, *, keep_model: bool = False
) -> tuple[Transformer, WeightForm | None]:
    """Return a folder's model, on a GPU if there is one, and the form in which its matrices are to be kept there.

    weights: the form; None: as they are stored, in 16 bits or in 32. The form that is returned is for Engine, None
    where the model itself has it. keep_model: the model is looked into as well, so on a CPU it is float32.
    Raises StageError for a form that the device doesn't have.
    """
    place = model_folder(folder)
    stored = _stored_dtype(place)
    if torch.cuda.is_available():
        if weights == "int8":
            raise StageError("--weights int8 is for CPUs; this machine has a GPU: take bfloat16")
        half = stored if weights is None and stored != torch.float32 else torch.bfloat16
        dtype = torch.float32 if weights == "float32" or (weights is None and stored == torch.float32) else half
        return load_model(folder, device="cuda", dtype=dtype), None
    if weights == "float32" or (weights is None and stored == torch.float32):
        return load_model(folder), None
    return load_model(folder, dtype=torch.float32 if keep_model else stored), weights or "bfloat16"


def _stored_dtype(folder: Path) -> torch.dtype:
    if (folder / ADAPTER).exists():
        return torch.float32
    return open_weights(folder, read_config(folder)).stored_dtype()
