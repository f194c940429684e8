from __future__ import annotations

import subprocess
import sys

import pytest
from roboref_core.models.pointing_model import PointingModel
from roboref_core.models.registry import BACKENDS, load_model, load_vlm, parse_options
from roboref_core.prompting.grid import Grid
from roboref_core.prompting.prompt import Form
from roboref_core.prompting.prompted import PromptedModel


def test_every_backend_without_weights_loads():
    assert isinstance(load_model("reprojection"), PointingModel)
    model = load_model("openai", url="http://127.0.0.1:9", model="vlm", convention="thousand", form="concat")
    assert isinstance(model, PromptedModel) and model.form is Form.CONCAT and model.name == "vlm"
    assert load_model("roborefer_http", url="http://127.0.0.1:9", depth="picture").vlm.uses_depth
    assert load_model("roboref_http", url="http://127.0.0.1:9").name == "roboref_http http://127.0.0.1:9"


def test_a_fused_model_has_another_inside():
    model = load_model("fused", url="http://127.0.0.1:9", vlm="openai", model="m", convention="thousand", form="concat")
    assert isinstance(model, PointingModel) and model.name == "fused(m)" and model.model.form is Form.CONCAT
    assert load_vlm("fused", url="http://127.0.0.1:9", vlm="openai", model="m", convention="thousand").name == "m"
    assert load_model("fused").name.startswith("fused(roboref-nano") or load_model("fused").name.startswith(
        "fused(nano"
    )


def test_options_may_come_as_text():
    texts = ["model=Qwen/Qwen2.5-VL=x", "convention=pixels", "multiple_of=28", "timeout=2.5", "grid=true"]
    options = parse_options(texts)
    assert options == {
        "model": "Qwen/Qwen2.5-VL=x",
        "convention": "pixels",
        "multiple_of": "28",
        "timeout": "2.5",
        "grid": "true",
    }
    model = load_model("openai", url="http://127.0.0.1:9", **options)
    assert model.grid == Grid() and model.vlm.multiple_of == 28
    for text in ("model", "=x", "a b=c"):
        with pytest.raises(ValueError, match="name=value"):
            parse_options([text])


def test_every_backend_with_weights_loads(llava_onevision, qwen_vl, depth_anything):
    model = load_model("llava_onevision", str(llava_onevision), device="cpu", depth_estimator=str(depth_anything))
    assert isinstance(model, PointingModel) and model.estimate_depth is not None
    assert isinstance(load_model("hugging_face", str(qwen_vl), device="cpu", convention="pixels"), PointingModel)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_model("gpt"), "unknown model backend 'gpt'.*" + ".*".join(BACKENDS)),
        (lambda: load_vlm("reprojection"), "no vision-language model"),
        (lambda: load_model("roborefer"), "needs a path"),
        (lambda: load_model("openai"), "needs a url"),
        (lambda: load_model("openai", url="http://x"), "needs the option 'model', 'convention'"),
        (
            lambda: load_model("openai", url="http://x", model="m", convention="persent"),
            "persent.*qwen3-vl.*pixels",
        ),
        (lambda: load_model("roborefer_http", url="http://x", depht="none"), "depht"),
        (lambda: load_model("roborefer_http", url="http://x", depth="some"), "'some'"),
        (lambda: load_model("reprojection", form="multi"), "takes no options"),
        (lambda: load_model("fused", vlm="reprojection"), "'vlm' must be one of nano.*found 'reprojection'"),
        (lambda: load_model("fused", vlm="nano", colour="no"), "'nano' has no option 'colour'"),
        (lambda: load_model("llava_onevision", "/nowhere"), "/nowhere is not a checkpoint folder"),
        (lambda: load_model("openai", url="http://x", model="m", convention="thousand", form="stack"), "stack"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("backend", "option", "value", "message"),
    [
        ("openai", "timeout", "soon", "'timeout' must be a number, found 'soon'"),
        ("openai", "timeout", True, "'timeout' must be a number"),
        ("openai", "multiple_of", "2.5", "'multiple_of' must be an integer"),
        ("openai", "max_pixels", "many", "'max_pixels' must be an integer or none"),
        ("openai", "attempts", "0", "attempts >= 1"),
        ("openai", "timeout", "nan", "timeout > 0"),
        ("openai", "api_key", "sk-secret", "api_key_env"),
        ("roborefer_http", "timeout", [], "must be a number"),
    ],
)
def test_option_values_have_types(backend, option, value, message):
    options = {"model": "m", "convention": "pixels"} if backend == "openai" else {}
    with pytest.raises(ValueError, match=message) as error:
        load_vlm(backend, url="http://127.0.0.1:9", **{**options, option: value})
    assert "sk-secret" not in str(error.value)


def test_a_model_s_name_may_be_a_number():
    model = load_vlm("openai", url="http://127.0.0.1:9", **parse_options(["model=7", "convention=qwen3-vl"]))
    assert model.name == "7" and model.max_pixels is None


def test_devices_and_dtypes_are_checked(llava_onevision):
    with pytest.raises(ValueError, match="float8"):
        load_model("llava_onevision", str(llava_onevision), device="cpu", dtype="float8")
    with pytest.raises(ValueError, match="tpu9"):
        load_model("llava_onevision", str(llava_onevision), device="tpu9")


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_nothing_heavy_is_imported_before_it_is_asked_for():
    code = "import sys; from roboref_core.models.registry import load_model; load_model('reprojection');"
    code += "print({'torch', 'transformers', 'httpx', 'fastapi', 'rclpy'} & set(sys.modules))"
    assert python(code).stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("torch", "load_model('roborefer', '.')"),
        ("transformers", "load_model('hugging_face', '.', convention='pixels')"),
        ("httpx", "load_model('openai', url='http://x', model='m', convention='pixels')"),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(module, call):
    result = python(f"import sys; sys.modules[{module!r}] = None; from roboref_core.models.registry import *; {call}")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError") and repr(module) in last and "pip install 'roboref_core[" in last
