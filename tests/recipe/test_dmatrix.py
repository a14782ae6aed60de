"""The configuration files of the d-Matrix tools, read as rules."""

from __future__ import annotations

import pytest

import dovetail as dv
from dovetail.recipe import OpAddress, Recipe
from dovetail.recipe.dmatrix import PRESETS, is_configuration, load_configuration
from dovetail.recipe.dmatrix.functions import approximation
from dovetail.recipe.dmatrix.instances import INSTANCES

OF_2022 = """\
supported_numerical_formats:
- &HIGH   BFP[8|8]{64,-1}(N)
- &FLOAT  FP[1|8|23](N)
- &SAME   SAME
supported_sparseness_patterns:
- &HALF   BTOPK{4:8,-1}
config_qkv: &config_qkv
  input_format: *HIGH
  output_format: *SAME
  accum_format: *FLOAT
  weight_format: *HIGH
  weight_sparseness: *HALF
transformation_rules:
- rule: |
    query projection
    in self-attention
  instance: Linear
  name_includes: [".encoder.layer", "self.query"]
  name_excludes: ["cross"]
  config: *config_qkv
- rule: softmax
  instance: Softmax
  name_includes: []
  name_excludes: []
  config: {output_format: *HIGH}
"""

OF_2023 = """\
conv1:
  accum_format: SAME
  approximation_function: NONE
  bias_format: SAME
  input_format: BFP[8|8]{64,1}(SN)
  instance: Conv2d
  output_format: FP[1|5|10,15](FN)
  state_dict_url: file:///tmp/conv1.pth
  weight_format: BFP[8|8]{64,1}(SN)
  weight_sparseness: DENSE
mp1:
  input_format: SAME
  instance: MaxPool2d
  output_format: FP[1|5|10,15](FN)
"""

OF_2024 = """\
_gm.fc:
  instance: !DmxModule Linear
  input_formats: {input_cast: !Format "BFP[8|8]{64}(SN)"}
  output_formats: [!Format "FP[1|5|10,15](FN)"]
  weight_storage_format: !Format "SBFP<XP[4,0](CSN)><FP[0|4|4,7](FN)>{16}"
  weight_sparseness: !Sparseness "TOPK{0.5}(U)"
  pre_input_transform:
    format: FLOAT16
    shaping: [[permute, [1, 0]], [view, 4, 2]]
    noquant_shortcut: [0, 0, 1]
_gm.resadd:
  instance: !DmxModule ResAdd
  input_formats: {input_cast: !Format SAME, residual_cast: !Format "FP[1|5|10,15](FN)"}
_gm.matmul:
  instance: !DmxModule ActActMatMul
  input_formats: {input_cast: "MXINT8{32}", multiplier_cast: "MXINT8{64}"}
"""


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return load_configuration(path)

    return load


def fields(recipe, path, kind, types=()):
    found, _ = recipe.resolve(OpAddress(path, kind, types=types))
    return found.describe()


def test_rules_of_2022_match_as_they_did(load):
    recipe = load(OF_2022).recipe
    query = {
        "input": "bfp(m=8, block=64, axis=-1)",
        "weight": "bfp(m=8, block=64, axis=-1)",
        "acc": "fp32(end)",
        "sparsity": "4:8(axis=-1)",
    }
    for path in ("encoder.layer.3.self.query", "bert.encoder.layer.0.self.query"):
        assert fields(recipe, path, "linear") == query
    for path in ("encoder.layer.3.cross.self.query", "encoder.layer.3.self.key", "self.query"):
        assert fields(recipe, path, "linear") == {}
    assert fields(recipe, "encoder.layer.3.self.query", "matmul") == {}
    assert fields(recipe, "anywhere", "softmax") == {"output": "bfp(m=8, block=64, axis=-1)"}
    assert all(rule.optional for rule in recipe)
    assert recipe.rules[0].source == "config.yaml:14"


def test_modules_of_2023(load):
    found = load(OF_2023)
    conv = fields(found.recipe, "conv1", "conv", ("Conv2d",))
    block = "bfp(m=8, block=64, axis=1)"
    assert conv == {
        "input": block,
        "weight": block,
        "output": "float(e=5, m=10, subnormals=False)",
    }
    assert fields(found.recipe, "conv1", "conv", ("Conv1d",)) == {}
    assert fields(found.recipe, "mp1", "max_pool", ("MaxPool2d",)).keys() == {"output"}
    assert found.weights == {"conv1": "file:///tmp/conv1.pth"}
    assert found.recipe.rules[0].source == "config.yaml:2"


def test_tags_and_casts_of_2024(load):
    recipe = load(OF_2024).recipe
    fc = fields(recipe, "fc", "linear")
    assert fc["input"] == (
        "shaped(bfp(m=8, block=64), permute=(1, 0), view=(4, 2), keep=(0, 0, 1), "
        "before=float(e=5, m=10, subnormals=False))"
    )
    assert set(fc) == {"input", "output", "weight_storage", "sparsity"}
    assert fields(recipe, "resadd", "add").keys() == {"other"}
    assert fields(recipe, "matmul", "matmul") == {
        "input": str(dv.format("MXINT8{32}")),
        "weight": str(dv.format("MXINT8{64}")),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fc:\n  input_fromat: SAME\n  instance: Linear", "2:3: unknown key 'input_fromat'; did"),
        ("fc: {input_format: 'BFP[8|7]{64}(SN)'}", "1:20: .*input_format: cannot read 'BFP"),
        ("fc:\n  input_format: INT8\n  instance: Linaer", "module class 'Linaer'; did you mean"),
        ("a:\n  input_format: INT8\n  instance: RotaryEmbedding", "address its parts, mul"),
        (
            "fc: {input_formats: [INT8, INT8], instance: Linear}",
            "2 formats, but the operation casts input",
        ),
        ("fc: {input_formats: {residual_cast: INT8}, instance: Linear}", "has only input"),
        ("fc: {input_formats: {x_cast: INT8}, instance: Linear}", "unknown cast 'x_cast'"),
        ("r: {input_formats: [INT8, INT4], instance: ApplyRotaryPosEmb}", "one format for input"),
        ("fc: {accum_format: BFP16_64}", "accum_format: a sum is kept in a floating format.*fp32"),
        ("fc: {smoothquant_scale_format: FLOAT16, input_format: INT8}", "SmoothQuant"),
        ("fc: {approximation_function: 'SILU[vsimd]()'}", "vsimd are not public"),
        ("fc: {pre_weight_transform: {shaping: [[flip, 0]]}, weight_format: INT8}", "'flip'"),
        ("fc: {pre_weight_transform: {form: 1}, weight_format: INT8}", "unknown key of pre_w"),
        ("fc: {pre_weight_transform: {format: INT8}}", "no format that it could come before"),
        ("transformation_rules: {}", "is a list, not a mapping"),
        ("transformation_rules: [3]", "a rule is a mapping, not the number 3"),
        ("transformation_rules: [{name_include: a}]", "unknown key 'name_include'; did you mean"),
        ("transformation_rules: [{name_includes: a, config: {}}]", "are lists, not 'a'"),
        ("a: !!python/object:os.system x", "the tag .* is not read here"),
    ],
)
def test_refusals_say_where_and_what(load, text, message):
    with pytest.raises(dv.DovetailError, match=message):
        load(text)


def test_aliases_cannot_unfold_without_end(load):
    lines = ["a0: &a0 {input_format: INT8}"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(dv.DovetailError, match="unfold to more than a file can mean"):
        load("\n".join(lines))


def test_recipe_load_reads_both_dialects(tmp_path):
    ours, theirs = tmp_path / "ours.yaml", tmp_path / "theirs.yaml"
    theirs.write_text(OF_2024)
    recipe = Recipe.load(theirs)
    recipe.save(ours)
    assert Recipe.load(ours) == recipe


def test_experiment_files_still_refuse_aliases(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("dovetail: 1\nrules: [&a {input: int8}, *a]")
    with pytest.raises(dv.DovetailError, match="aliases are not read"):
        Recipe.load(path)


def test_what_is_a_configuration():
    assert is_configuration({"transformation_rules": []})
    assert not is_configuration({"dovetail": 1, "transformation_rules": []})
    assert not is_configuration({"rules": [{"input": "int8"}]})
    assert not is_configuration(["input_format"])


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("NONE", "exact"),
        ("poly2softmax", "softmax(exp=poly2(fp32), format=fp32)"),
        ("SOFTMAX( base2quake3 , bfloat16 )", "reciprocal=newton(1, fp16)"),
        ("GELU(poly2,float16)", "poly2(fp16)"),
        ("LAYERNORM(legacy,int)", "norm(format=fixed(24, 14), acc=fp32)"),
        ("LAYERNORM(fallback,-2,float16)", "scale=4"),
    ],
)
def test_functions(theirs, ours):
    assert ours in approximation(theirs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SOFTMAX(poly3,float16)", "algorithm of SOFTMAX 'poly3'; did you mean 'poly2'"),
        ("SOFTMAX(poly2,float8)", "number format 'float8'"),
        ("SOFTMAX(vsimd)", "not public"),
        ("GELU(poly2,1,float16)", "after the algorithm comes the number format"),
        ("softmax", "is no function; write it as"),
    ],
)
def test_functions_refused(text, message):
    with pytest.raises(dv.DovetailError, match=message):
        approximation(text)


def test_presets_are_recipes_for_any_model():
    assert set(PRESETS) == {"BASELINE", "BASIC", "FP8", "SBFP_WEIGHT_STORAGE"}
    basic = Recipe.preset("BASIC")
    assert fields(basic, "x", "linear")["input"] == "bfp(m=8, block=64)"
    assert fields(basic, "x", "softmax").keys() == {"input", "output"}
    assert fields(basic + Recipe.preset("BASELINE"), "x", "linear") == {}
    with pytest.raises(dv.DovetailError, match="unknown preset 'BASICS'; did you mean 'BASIC'"):
        Recipe.preset("BASICS")


def test_every_instance_is_an_operation():
    from dovetail.kinds import KINDS

    for name, found in INSTANCES.items():
        assert found.op in KINDS, name
        assert all(KINDS[found.op].takes(slot) for slot in found.slots), name
