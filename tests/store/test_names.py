"""Names in a store: a store that was made before is still found, and nothing else is taken for part of one."""

import pytest

from fanreel.store import names

DIGEST = "ab" + "01" * 31
PAYLOAD = "0123456789abcdef" * 4

# As the first release wrote them; docs/store.md.
NAMES = [
    (names.record(DIGEST, "x264"), f"segments/ab/{DIGEST}.x264.json"),
    (names.segment_file(DIGEST, "hevc-nvenc"), f"segments/ab/{DIGEST}.hevc-nvenc.mp4"),
    (names.segment_file(DIGEST, "x264", payload_digest=PAYLOAD), f"segments/ab/{DIGEST}.x264.0123456789abcdef.mp4"),
    (names.plan(DIGEST), f"plans/{DIGEST}.json"),
    (names.photo(DIGEST), f"photos/ab/{DIGEST}"),
    (names.manifest(DIGEST), f"films/{DIGEST}.json"),
]


@pytest.mark.parametrize(("made", "name"), NAMES)
def test_a_name_stays_what_it_was_and_says_what_it_is_of(made: str, name: str):
    assert made == name
    said = names.parse(name)
    assert said is not None
    assert (said.folder, said.digest) == (name.partition("/")[0], DIGEST)
    of_segment = said.folder == names.SEGMENTS
    assert said.encoder == (name.split(".")[1] if of_segment else "")
    assert said.suffix == ("." + name.rpartition(".")[2] if of_segment else "")
    assert said.payload == (PAYLOAD[:16] if name.count(".") == 3 else "")


@pytest.mark.parametrize("name", [name for _, name in NAMES])
def test_what_is_not_quite_a_name_is_none(name: str):
    wrong = [f"{name}.part", f"/{name}", f"other/{name}", name.replace("ab01", "AB01"), name.replace("0101", "01", 1)]
    wrong += [name.replace(dot, "_") for dot in (".json", ".mp4", ".x264") if dot in name]
    assert [other for other in wrong if names.parse(other)] == []
