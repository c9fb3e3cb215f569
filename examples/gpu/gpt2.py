"""GPT-2, with the names of its published weights, and its checkpoints.

Radford et al. 2019, *Language Models are Unsupervised Multitask Learners*.
"""

import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

try:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
except ImportError:  # checkpoints come as torch.save wrote them
    load_file, SafetensorError = None, OSError

# The published weights of these are (in, out), and those of a linear layer (out, in).
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
# Masks and the output weights, which are those of the input.
NO_WEIGHTS = (".attn.bias", ".attn.masked_bias", "lm_head.weight")
FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The size of a GPT-2, in the words of its published ``config.json``."""

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int


class GPT2(nn.Module):
    """Logits (n, context, vocabulary) of the next token after each token of (n, context)."""

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        if shape.n_embd % shape.n_head:
            raise ValueError(
                f"LRPILOT_WIDTH ({shape.n_embd}) must be a multiple of LRPILOT_HEADS "
                f"({shape.n_head})"
            )
        self.shape = shape
        self.wte = nn.Embedding(shape.vocab_size, shape.n_embd)
        self.wpe = nn.Embedding(shape.n_positions, shape.n_embd)
        self.drop = nn.Dropout(dropout)
        self.h = nn.ModuleList(Block(shape, dropout) for _ in range(shape.n_layer))
        self.ln_f = nn.LayerNorm(shape.n_embd)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                # Sums over the layers keep their variance, section 2.3.
                into_sum = name.endswith("c_proj.weight")
                nn.init.normal_(
                    parameter, std=0.02 / math.sqrt(2 * shape.n_layer if into_sum else 1)
                )
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """Predict what follows each token from it and those before it."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.wte(tokens) + self.wpe(positions))
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)


class Block(nn.Module):
    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(shape.n_embd)
        self.attn = Attention(shape, dropout)
        self.ln_2 = nn.LayerNorm(shape.n_embd)
        self.mlp = Perceptron(shape, dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Attention(nn.Module):
    """Causal attention of several heads."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.heads = shape.n_head
        self.c_attn = nn.Linear(shape.n_embd, 3 * shape.n_embd)
        self.c_proj = nn.Linear(shape.n_embd, shape.n_embd)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        n, context, width = x.shape
        by_head = self.c_attn(x).view(n, context, 3, self.heads, width // self.heads)
        query, key, value = by_head.permute(2, 0, 3, 1, 4)  # (n, heads, context, width / heads)
        share = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=share, is_causal=True)
        return self.dropout(self.c_proj(mixed.transpose(1, 2).reshape(n, context, width)))


class Perceptron(nn.Module):
    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.c_fc = nn.Linear(shape.n_embd, 4 * shape.n_embd)
        self.c_proj = nn.Linear(4 * shape.n_embd, shape.n_embd)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(F.gelu(self.c_fc(x), approximate="tanh")))


def save_checkpoint(model: GPT2, folder: Path) -> None:
    """Write weights and shape as the published ones lie: ``pytorch_model.bin``, ``config.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (tensor.T.contiguous() if name.endswith(TRANSPOSED) else tensor).detach().cpu()
        for name, tensor in model.state_dict().items()
    }
    torch.save(weights, folder / "pytorch_model.bin")
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **asdict(model.shape)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_checkpoint(model: GPT2, path: Path) -> None:
    """Put the weights at ``path`` into ``model``.

    path: a .safetensors file, a state dict of torch, or a folder with one of either. A
        ``config.json`` beside the weights is checked too.

    Raises ValueError, with the setting to change, if the shapes disagree.
    """
    file = _file(path)
    _check_config(file.parent / "config.json", model.shape)
    found = {
        name.removeprefix("transformer."): tensor
        for name, tensor in _read(file).items()
        if not name.endswith(NO_WEIGHTS)
    }
    wanted = model.state_dict()
    layers = {int(name.split(".")[1]) for name in found if name.startswith("h.")}
    if layers and layers != set(range(model.shape.n_layer)):
        raise ValueError(
            f"{file} has {len(layers)} layers, and the model {model.shape.n_layer}; set "
            f"LRPILOT_LAYERS={len(layers)}"
        )
    if found.keys() != wanted.keys():
        name = min(found.keys() ^ wanted.keys())
        raise ValueError(
            f"{file} {'lacks' if name in wanted else 'has'} the weight {name!r}, which a GPT-2 "
            f"{'has' if name in wanted else 'lacks'}; give a checkpoint of GPT-2"
        )
    for name, tensor in found.items():
        weight = tensor.T if name.endswith(TRANSPOSED) and tensor.ndim == 2 else tensor
        if weight.shape != wanted[name].shape:
            _disagree(file, name, tuple(weight.shape), tuple(wanted[name].shape))
        wanted[name] = weight
    model.load_state_dict(wanted)


def _disagree(file: Path, name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    what = "vocabulary" if name == "wte.weight" and found[:1] != wanted[:1] else "width"
    cure = "set LRPILOT_WIDTH to the checkpoint's"
    if name == "wpe.weight" and found[:1] != wanted[:1]:
        what, cure = "context", f"set LRPILOT_POSITIONS={found[0]}"
    elif what == "vocabulary":
        cure = (
            f"set LRPILOT_TOKENIZER to the tokenizer.json that belongs to the checkpoint, or "
            f"LRPILOT_VOCABULARY={found[0]} if the tokens are of its tokenizer"
        )
    raise ValueError(
        f"{file} and the model differ in {what}: {name} is {found} there and {wanted} here; {cure}"
    )


def _file(path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"LRPILOT_BASE is {str(path)!r}, which does not exist; correct the path")
    if path.is_file():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    raise ValueError(
        f"LRPILOT_BASE is {str(path)!r}, a folder without {' or '.join(FILES)}; give the file"
    )


def _read(file: Path) -> Mapping[str, Tensor]:
    """The tensors in the file; no code in it is run."""
    if file.suffix == ".safetensors":
        if load_file is None:
            raise ValueError(f"{file} needs the package safetensors; pip install safetensors")
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is truncated or damaged ({error}); get it again") from None
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{file} is refused, as it is no plain state dict ({reason}); nothing in it was run. "
            f"Save model.state_dict() or a .safetensors file"
        ) from None
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{file} is truncated or damaged ({error}); get it again") from None
    if not isinstance(found, dict) or not all(isinstance(one, Tensor) for one in found.values()):
        raise ValueError(f"{file} must be a dict of tensors; save model.state_dict()")
    return found


def _check_config(file: Path, shape: Shape) -> None:
    """A number of heads that differs changes the model and shows in no weight's shape."""
    if not file.is_file():
        return
    try:
        heads = json.loads(file.read_text()).get("n_head", shape.n_head)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file} is not a config.json of GPT-2 ({error}); mend it") from None
    if heads != shape.n_head:
        raise ValueError(
            f"{file} says {heads} heads, and LRPILOT_HEADS is {shape.n_head}; set "
            f"LRPILOT_HEADS={heads}"
        )
