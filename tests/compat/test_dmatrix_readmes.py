"""The code of the predecessors' READMEs, with the import line changed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dovetail as dv

CONFIG = """\
fc1:
  instance: Linear
  input_format: BFP[8|8]{64,-1}(SN)
  weight_format: BFP[8|8]{64,-1}(SN)
  weight_sparseness: BTOPK{4:8,-1}
  output_format: FP[1|5|10,15](FN)
  approximation_function: NONE
fc2:
  instance: Linear
  input_format: BFP[8|8]{64,-1}(SN)
  weight_format: BFP[8|8]{64,-1}(SN)
"""


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 64)
        self.fc2 = nn.Linear(64, 8)

    def forward(self, x):
        return self.fc2(self.fc1(x).relu())


def some_network():
    torch.manual_seed(0)
    return Net()


def evaluate(model, data):
    with torch.no_grad():
        return model(data)


DATA = torch.linspace(-1, 1, 4 * 64).reshape(4, 64)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("dmx_config.yaml", "corsair_config.yaml"):
        (tmp_path / name).write_text(CONFIG)


@pytest.fixture
def want(config):
    model = some_network()
    dv.apply_(model, dv.Recipe.load("dmx_config.yaml"), DATA)
    return evaluate(model, DATA)


def test_dmx(want):
    from dovetail.compat import dmx

    dmx.aware()
    try:
        model = some_network()
        model = dmx.Model(model)
        model.transform("dmx_config.yaml")
        results = evaluate(model, DATA)
    finally:
        dmx.unaware()
    assert torch.equal(results, want)


def test_corsair_without_a_container(want):
    from dovetail.compat import corsair

    corsair.aware()
    try:
        model = some_network()
        model.transform("corsair_config.yaml")
        results = evaluate(model, DATA)
    finally:
        corsair.unaware()
    assert torch.equal(results, want)


def test_corsair_with_one(want):
    from dovetail.compat import corsair

    model = corsair.Model(some_network())
    model.transform("corsair_config.yaml")
    assert torch.equal(evaluate(model, DATA), want)


def test_modes_of_dmx_model():
    from dovetail.compat import dmx

    exact = evaluate(some_network(), DATA)
    model = dmx.DmxModel.from_torch(some_network())
    seen = [evaluate(model, DATA)]
    for mode in (
        model.to_basic_mode,
        lambda: model.to_basic_mode(sbfp_weight_storage=True),
        model.to_fp8_mode,
    ):
        mode()
        seen.append(evaluate(model, DATA))
    assert torch.equal(seen[0], exact)
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert torch.equal(evaluate(model.to_baseline_mode(), DATA), exact)


def test_rules_in_code(want):
    from dovetail.compat import dmx

    block = "BFP[8|8]{64}(SN)"
    both = {"input_formats": [block], "weight_format": block}
    model = dmx.Model(some_network()).configure(
        None,
        dmx.DmxConfigRule((nn.Linear,), r"_gm\.fc", both),
        dmx.DmxTransformation(
            module_types=(nn.Linear,),
            name_re="fc1",
            module_config={"weight_sparseness": "BTOPK{4:8,-1}(U)", "output_formats": ["FLOAT16"]},
        ),
    )
    assert torch.equal(evaluate(model, DATA), want)
    assert model.dmx_config["fc1"]["sparsity"] == "4:8(axis=-1)"
    with model.monitoring(["fc1"]) as monitor:
        model(DATA)
    assert len(monitor["fc1"]) == 1
    with pytest.raises(dv.DovetailError, match="is no regular expression"):
        dmx.DmxConfigRule((nn.Linear,), "(", both)
    with pytest.raises(dv.DovetailError, match="unknown key 'input_fromat'"):
        dmx.DmxConfigRule((nn.Linear,), "fc1", {"input_fromat": "INT8"})
