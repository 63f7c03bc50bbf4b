"""Architectures as text: what is read, what is written, and what is refused."""

import copy
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_tf.errors import ArchitectureError
from tas_tf.json_schema import MAX_NESTING, MAX_TEXT
from tas_tf.spaces import families
from tas_tf.spaces.architecture import MAX_BLOCKS, Architecture

VALID = {
    "schema_version": 1,
    "family": "cifar_resnet",
    "block": "basic",
    "input_shape": [32, 32, 3],
    "num_classes": 10,
    "stem_width": 16,
    "stages": [[[16, 14]], [[32, 28], [9, 32]], [[1, 64]]],
}


def changed(path, value) -> str:
    """The valid file as text with the value at a path replaced."""
    data = copy.deepcopy(VALID)
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(data)


def refusal(text) -> str:
    with pytest.raises(ArchitectureError) as caught:
        Architecture.from_json(text, "found.json")
    message = str(caught.value)
    assert message.startswith("found.json: ") and len(message) < 400 and "\n" not in message
    return message


def test_valid_file_is_read():
    architecture = Architecture.from_json(json.dumps(VALID))
    assert architecture.input_shape == (32, 32, 3)
    assert architecture.stages == (((16, 14),), ((32, 28), (9, 32)), ((1, 64),))
    assert architecture.name is None
    assert hash(architecture) == hash(Architecture.from_json(json.dumps(VALID).encode()))


def test_layers_are_those_that_are_built():
    layers = [
        (layer.name, layer.stride, layer.size, i, o)
        for layer, i, o, _ in Architecture.from_json(json.dumps(VALID)).layers()
    ]
    assert layers == [
        ("stem", 1, (32, 32), 3, 16),
        ("stage1_block1_conv1", 1, (32, 32), 16, 16),
        ("stage1_block1_conv2", 1, (32, 32), 16, 14),
        ("stage1_block1_projection", 1, (32, 32), 16, 14),
        ("stage2_block1_conv1", 2, (16, 16), 14, 32),
        ("stage2_block1_conv2", 1, (16, 16), 32, 28),
        ("stage2_block1_projection", 2, (16, 16), 14, 28),
        ("stage2_block2_conv1", 1, (16, 16), 28, 9),
        ("stage2_block2_conv2", 1, (16, 16), 9, 32),
        ("stage2_block2_projection", 1, (16, 16), 28, 32),
        ("stage3_block1_conv1", 2, (8, 8), 32, 1),
        ("stage3_block1_conv2", 1, (8, 8), 1, 64),
        ("stage3_block1_projection", 2, (8, 8), 32, 64),
        ("classifier", 1, (1, 1), 64, 10),
    ]


def test_stride_two_keeps_its_projection_where_widths_agree():
    text = changed(("stages",), [[[16, 16]], [[32, 16]], [[64, 16]]])
    names = [layer.name for layer, _, _, _ in Architecture.from_json(text).layers()]
    assert [name for name in names if name.endswith("projection")] == [
        "stage2_block1_projection",
        "stage3_block1_projection",
    ]


def test_bottleneck_stride_stands_in_its_3x3():
    text = json.dumps(VALID | {"block": "bottleneck", "stages": [[[4, 5, 6]]] * 3})
    layers = {layer.name: layer for layer, _, _, _ in Architecture.from_json(text).layers()}
    assert layers["stage2_block1_conv1"].stride == 1
    assert layers["stage2_block1_conv1"].size == (32, 32)
    assert layers["stage2_block1_conv2"].stride == 2
    assert layers["stage2_block1_conv3"].size == (16, 16)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_projections_are_normalized_as_the_family_says(block, stride):
    for family in families.FAMILIES.values():
        counts = [1] * len(family.base_widths)
        outline = families.outline(family, families.BLOCKS[block], counts, (32, 32, 3))
        expected = family.name == "imagenet_resnet" or (block, stride) == ("basic", 1)
        assert outline.stages[stride - 1][0].projection.normalized == expected


@pytest.mark.parametrize(
    ("path", "value", "field", "shown"),
    [
        (("stem_width",), 0, "stem_width", "Received: 0"),
        (("stem_width",), -16, "stem_width", "Received: -16"),
        (("stem_width",), True, "stem_width", "Received: True"),
        (("stem_width",), 16.0, "stem_width", "Received: 16.0"),
        (("stem_width",), "16", "stem_width", "Received: '16'"),
        (("stem_width",), None, "stem_width", "Received: None"),
        (("stem_width",), 65_537, "stem_width", "Received: 65537"),
        (("stages", 1, 0, 1), 0, "stages[1][0][1]", "Received: 0"),
        (("stages", 1, 0, 1), -1, "stages[1][0][1]", "Received: -1"),
        (("stages", 1, 0, 1), False, "stages[1][0][1]", "Received: False"),
        (("stages", 1, 0, 1), 2.5, "stages[1][0][1]", "Received: 2.5"),
        (("stages", 1, 0, 1), 10**12, "stages[1][0][1]", "Received: 1000000000000"),
        (("stages", 1, 0, 1), 10**3000, "stages[1][0][1]", "Received: 10000"),
        (("stages", 1, 0, 1), [1], "stages[1][0][1]", "Received: [1]"),
        (("stages", 1, 0), [1, 2, 3], "stages[1][0]", "a list of 2. Received: [1, 2, 3]"),
        (("stages", 1, 0), 16, "stages[1][0]", "a list of 2. Received: 16"),
        (("stages", 1), [], "stages[1]", "at least one block"),
        (("stages", 1), {"0": [1, 2]}, "stages[1]", "a list. Received: {'0': [1, 2]}"),
        (("stages",), [[[1, 1]]] * 2, "stages", "a list of 3. Received: [[[1, 1]], [[1, 1]]]"),
        (("stages",), "16,16", "stages", "a list of 3. Received: '16,16'"),
        (("family",), "vgg", "family", "cifar_resnet, imagenet_resnet. Received: 'vgg'"),
        (("family",), ["cifar_resnet"], "family", "Received: ['cifar_resnet']"),
        (("family",), "imagenet_resnet", "stages", "a list of 4"),
        (("block",), "Basic", "block", "basic, bottleneck. Received: 'Basic'"),
        (("block",), "bottleneck", "stages[0][0]", "a list of 3. Received: [16, 14]"),
        (("input_shape",), [32, 32], "input_shape", "a list of 3. Received: [32, 32]"),
        (("input_shape", 2), 0, "input_shape[2]", "Received: 0"),
        (("input_shape", 0), 10**9, "input_shape[0]", "Received: 1000000000"),
        (("num_classes",), 0, "num_classes", "Received: 0"),
        (("num_classes",), "ten", "num_classes", "Received: 'ten'"),
        (("schema_version",), 2, "schema_version", "base.keras must lie beside it"),
        (("schema_version",), 3, "schema_version", "reads 1. Received: 3"),
        (("schema_version",), True, "schema_version", "Received: True"),
        (("schema_version",), 1.0, "schema_version", "Received: 1.0"),
        (("name",), 7, "name", "Received: 7"),
        (("cost",), 7, "cost", "Received: 7"),
        (("provenance",), [1], "provenance", "Received: [1]"),
    ],
)
def test_refuses_by_field_and_value(path, value, field, shown):
    message = refusal(changed(path, value))
    assert message.startswith(f"found.json: {field}: ")
    assert shown in message


@pytest.mark.parametrize("field", sorted(VALID))
def test_refuses_a_missing_field(field):
    data = {key: value for key, value in VALID.items() if key != field}
    assert refusal(json.dumps(data)) == f"found.json: missing field '{field}'"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_refuses_what_is_no_number(number):
    message = refusal(json.dumps(VALID).replace(": 10,", f": {number},"))
    assert "not valid JSON" in message and number in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not valid JSON: Expecting value"),
        (b"", "not valid JSON: Expecting value"),
        ("{", "not valid JSON: Expecting property name"),
        (json.dumps(VALID)[:-10], "not valid JSON"),
        ("[]", "expected a JSON object. Received: []"),
        ("3", "expected a JSON object. Received: 3"),
        (b"\x80\x81", "not valid JSON: 'utf-8'"),
        (json.dumps(VALID).encode("utf-16"), "not valid JSON: 'utf-8'"),
        (b'{"name": "\xed\xa0\x80"}', "not valid JSON: 'utf-8'"),
        ('{"stages": ' + "9" * 100_000 + "}", "not valid JSON"),
        (json.dumps(VALID | {"width": 3}), "unknown field 'width'; known are schema_version, "),
        (json.dumps(VALID | {"w" * 10_000: 3}), "unknown field 'wwww"),
        (json.dumps(VALID)[:-1] + ', "block": "basic"}', "field 'block' stands twice"),
        (json.dumps(VALID)[:-1] + ', "cost": {"a": 1, "a": 2}}', "field 'a' stands twice"),
        (" " * (MAX_TEXT + 1), f"longer than {MAX_TEXT} bytes"),
    ],
)
def test_refuses_text(text, said):
    assert said in refusal(text)


@pytest.mark.parametrize("field", ["name", "stages", "provenance", "unknown"])
@pytest.mark.parametrize("depth", [MAX_NESTING + 1, 400, 950, 990, 1_000, 5_000, 1_000_000])
def test_refuses_deep_nesting(field, depth):
    data = {key: value for key, value in VALID.items() if key != field}
    opening, closing = ('{"a":', "}") if field == "provenance" else ("[", "]")
    nested = opening * depth + "1" + closing * depth
    assert "nested more than" in refusal(f'{json.dumps(data)[:-1]}, "{field}": {nested}}}')


def test_what_is_nested_less_is_written_again():
    nested = '{"a":' * 98 + "1" + "}" * 98
    text = f'{json.dumps(VALID)[:-1]}, "provenance": {nested}}}'
    architecture = Architecture.from_json(text)
    assert Architecture.from_json(architecture.to_json()).provenance == json.loads(nested)


def test_refuses_a_million_fields_at_once():
    fields = ",".join(f'"{i}":0' for i in [*range(500_000), 499_999])
    start = time.monotonic()
    assert "field '499999' stands twice" in refusal("{" + fields + "}")
    assert time.monotonic() - start < 5


def test_limits_blocks_and_parameters():
    block = [1, 1]
    text = changed(("stages",), [[block] * 998, [block], [block]])
    assert len(Architecture.from_json(text).stages[0]) == MAX_BLOCKS - 2
    text = changed(("stages",), [[block] * 999, [block], [block]])
    assert "stages: more than 1000 blocks" in refusal(text)
    text = changed(("stages",), [[block] * 100_000] * 3)
    assert "stages: more than 1000 blocks" in refusal(text)
    # The kernel alone has 9 * 3600 * 65536 parameters, which is 1 % below 2^31.
    Architecture.from_json(changed(("stages", 2), [[3_600, 65_536]]))
    text = changed(("stages", 2), [[3_641, 65_536]])
    assert "2147483648 (2^31) parameters, reached at stage3_block1_conv2" in refusal(text)


def test_byte_order_mark_is_no_error():
    assert Architecture.from_json(b"\xef\xbb\xbf" + json.dumps(VALID).encode()).stem_width == 16


def test_constructor_checks_as_the_reader_does():
    with pytest.raises(ArchitectureError, match=r"stem_width: .* Received: 0"):
        Architecture("cifar_resnet", "basic", (32, 32, 3), 10, 0, (((1, 1),),) * 3)


widths = st.integers(1, 300)
names = st.none() | st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def architectures(draw) -> Architecture:
    family = families.FAMILIES[draw(st.sampled_from(sorted(families.FAMILIES)))]
    block = draw(st.sampled_from(["basic", "bottleneck"]))
    unit_widths = st.tuples(*[widths] * len(families.BLOCKS[block].units))
    stages = [
        tuple(draw(st.lists(unit_widths, min_size=1, max_size=3))) for _ in family.base_widths
    ]
    finite = st.floats(allow_nan=False, allow_infinity=False)
    return Architecture(
        family=family.name,
        block=block,
        input_shape=draw(st.tuples(widths, widths, widths)),
        num_classes=draw(widths),
        stem_width=draw(widths),
        stages=tuple(stages),
        name=draw(names),
        cost=draw(st.none() | st.dictionaries(st.text(), st.integers() | finite, max_size=3)),
    )


@settings(deadline=None, max_examples=60)
@given(architectures())
def test_round_trip(architecture):
    text = architecture.to_json()
    again = Architecture.from_json(text)
    assert again == architecture
    assert again.cost == architecture.cost
    assert again.to_json() == text


def test_text_has_a_block_a_line():
    lines = Architecture.from_json(json.dumps(VALID)).to_json().splitlines()
    assert {"      [32, 28],", "      [9, 32]"} <= set(lines)


def check_parsed_or_refused(text) -> None:
    try:
        architecture = Architecture.from_json(text)
    except ArchitectureError as error:
        assert 0 < len(str(error)) < 2_000
    else:
        assert Architecture.from_json(architecture.to_json()) == architecture


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=200) | st.text(max_size=200) | json_values.map(json.dumps))
def test_anything_is_read_or_refused(text):
    check_parsed_or_refused(text)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from([*VALID, "name", "cost", "provenance", "x"]), json_values))
def test_any_fields_are_read_or_refused(fields):
    check_parsed_or_refused(json.dumps(VALID | fields))


def _paths(value, path=()):
    yield path
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(inner, (*path, key))


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([path for path in _paths(VALID) if path]), json_values)
def test_any_value_anywhere_is_read_or_refused(path, value):
    check_parsed_or_refused(changed(path, value))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_mutated_bytes_are_read_or_refused(data):
    text = bytearray(json.dumps(VALID).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        text[start : start + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=4))
    check_parsed_or_refused(bytes(text))
