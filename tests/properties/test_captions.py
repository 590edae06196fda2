import csv
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fourdnex.generation.captions import find_captions

# Any character but control characters and those with a meaning in paths; a number keeps the names apart.
stems = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\."), max_size=8)
files = st.lists(stems, min_size=1, max_size=5).map(
    lambda texts: [f"{number}-{text}.jpg" for number, text in enumerate(texts)]
)
prompts = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n\t\r\u2028",;'), max_size=30)
rows = files.flatmap(lambda names: st.tuples(*(st.tuples(st.just(name), prompts) for name in names)))
image_columns = st.sampled_from(["image", "File", "picture"])  # the last is the former name
prompt_columns = st.sampled_from(["prompt", " Caption"])


def check(folder: Path, table: Path, captions: tuple[tuple[str, str], ...]) -> None:
    """Each image has its caption on one line; images with an empty one have none."""
    found = find_captions(folder, [folder / name for name, _ in captions], table)
    expected = {name: " ".join(prompt.split()) for name, prompt in captions}
    assert found.texts == {name: prompt for name, prompt in expected.items() if prompt}
    assert found.errors == {} and found.unmatched == ()


@given(captions=rows, image=image_columns, prompt=prompt_columns, delimiter=st.sampled_from(",;\t"))
def test_captions_of_csv_tables_are_restored(tmp_path, captions, image, prompt, delimiter):
    with open(tmp_path / "t.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow([image, prompt])
        writer.writerows(captions)
    check(tmp_path, tmp_path / "t.csv", captions)


@given(captions=rows, image=image_columns, prompt=prompt_columns, ascii=st.booleans())
def test_captions_of_json_lines_are_restored(tmp_path, captions, image, prompt, ascii):
    lines = [json.dumps({image: name, prompt: text}, ensure_ascii=ascii) for name, text in captions]
    (tmp_path / "t.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    check(tmp_path, tmp_path / "t.jsonl", captions)
