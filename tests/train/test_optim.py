import pytest
import torch
from torch import nn

from crawl2chat.train.optim import MuonAdamW, lr_scale, muon_momentum, orthogonalise


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 16, 6), (2, 6, 16)])
def test_orthogonalised_matrices_keep_their_directions_and_lose_their_scales(shape):
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    o = orthogonalise(g, steps=8)
    singular = torch.linalg.svdvals(o)
    assert singular.min() > 0.6
    assert singular.max() < 1.3
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    rotated = u.mT @ o @ vh.mT  # diagonal if the singular directions are those of g
    off_diagonal = rotated - torch.diag_embed(rotated.diagonal(dim1=-2, dim2=-1))
    assert off_diagonal.abs().max() < 1e-3


def test_orthogonalising_in_bf16_gives_nearly_the_same_matrix_in_the_type_that_came():
    g = torch.randn(3, 24, 16, generator=torch.Generator().manual_seed(0))
    exact, rounded = orthogonalise(g), orthogonalise(g, dtype=torch.bfloat16)
    assert rounded.dtype == torch.float32
    cosine = torch.cosine_similarity(exact.flatten(1), rounded.flatten(1))
    assert (cosine > 0.999).all()
    assert not torch.equal(exact, rounded)


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.embed = nn.Parameter(torch.randn(7, 4, generator=generator))
        self.layers = nn.ParameterList([nn.Parameter(torch.randn(6, 4, generator=generator))])


def test_what_is_outside_the_blocks_moves_as_torchs_adamw_moves_it():
    ours, theirs = Toy(), Toy()
    optimiser = MuonAdamW([("m.embed", ours.embed), ("m.layers.0", ours.layers[0])], 0.1, 0.01, 0.0, beta1=0.8)
    reference = torch.optim.AdamW([theirs.embed], lr=0.01, betas=(0.8, 0.95), weight_decay=0.0)
    for step in range(5):
        for model in (ours, theirs):
            loss = (model.embed.sin().sum() + (model.embed @ model.layers[0].detach().mT).square().sum()) / 10
            model.embed.grad = torch.autograd.grad(loss, model.embed)[0]
            model.layers[0].grad = torch.zeros_like(model.layers[0])
        optimiser.step(step, scale=1.0)
        reference.step()
    torch.testing.assert_close(ours.embed, theirs.embed, atol=1e-6, rtol=1e-5)


def test_what_is_trained_next_to_an_adapter_moves_at_its_rate():
    names = ("score.weight", "body.model.layers.0.self_attn.q_proj.lora_A")
    for kept, rate in ((names, 0.001), (names[:1], 0.5)):
        parameters = {name: nn.Parameter(torch.zeros(3, 4)) for name in kept}
        optimiser = MuonAdamW(parameters.items(), 0.1, embedding_lr=0.5, weight_decay=0, adapter_lr=0.001)
        for parameter in parameters.values():
            parameter.grad = torch.ones(3, 4)
        optimiser.step(0, 1.0)
        for parameter in parameters.values():
            torch.testing.assert_close(parameter.detach(), torch.full((3, 4), -rate))


def test_what_is_inside_the_blocks_moves_as_torchs_muon_moves_it():
    ours, theirs = Toy(), Toy()
    named = [("m.embed", ours.embed), ("m.layers.0", ours.layers[0])]
    optimiser = MuonAdamW(named, 0.1, 0.01, 0.3, bf16=True)  # torch's products are in bf16, too
    reference = torch.optim.Muon([theirs.layers[0]], lr=0.1, weight_decay=0.3, momentum=0.95, adjust_lr_fn="original")
    generator = torch.Generator().manual_seed(5)
    for step in range(5):
        gradient = torch.randn(6, 4, generator=generator)
        ours.layers[0].grad, ours.embed.grad = gradient.clone(), torch.zeros_like(ours.embed)
        theirs.layers[0].grad = gradient.clone()
        optimiser.step(step, scale=1.0)
        reference.step()
    moved = (theirs.layers[0] - Toy().layers[0]).norm()
    assert (ours.layers[0] - theirs.layers[0]).norm() < 0.03 * moved  # both round to bf16, in another order


def test_a_matrix_in_a_block_steps_by_the_rate_along_the_orthogonalised_gradient():
    model = Toy()
    before = model.layers[0].detach().clone()
    gradient = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    model.layers[0].grad, model.embed.grad = gradient, torch.zeros_like(model.embed)
    optimiser = MuonAdamW([("m.embed", model.embed), ("m.layers.0", model.layers[0])], 0.1, 0.01, 0.0)
    optimiser.step(0, scale=0.5)
    expected = before - 0.5 * 0.1 * (6 / 4) ** 0.5 * orthogonalise(gradient[None])[0]
    torch.testing.assert_close(model.layers[0].detach(), expected, atol=1e-6, rtol=1e-5)


def test_the_rate_rises_holds_and_falls_to_zero():
    scales = [lr_scale(step, 100, warmup=0.1, decay=0.4) for step in range(101)]
    assert scales[0] == pytest.approx(0.1)
    assert scales[9:61] == [1.0] * 52
    assert scales[80] == pytest.approx(0.5)
    assert scales[100] == 0.0
    assert all(0 < scale <= 1 for scale in scales[:100])


def test_muons_momentum_rises_over_its_share_of_the_steps_and_stays():
    momenta = [muon_momentum(step, 100, warmup=0.2) for step in range(100)]
    assert momenta[0] == pytest.approx(0.85)
    assert momenta[10] == pytest.approx(0.9)
    assert momenta[20:] == [0.95] * 80
    assert muon_momentum(0, 100, warmup=0.0) == 0.95


def test_the_momentum_of_a_step_is_the_weight_of_the_old_gradients():
    model = Toy()
    optimiser = MuonAdamW([("m.embed", model.embed), ("m.layers.0", model.layers[0])], 0.1, 0.01, 0.0)
    gradient = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    model.layers[0].grad, model.embed.grad = gradient, torch.zeros_like(model.embed)
    optimiser.step(0, 1.0, momentum=0.85)
    torch.testing.assert_close(optimiser.state["momentum.m.layers.0"], 0.15 * gradient)
