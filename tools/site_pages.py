"""The pages of the documents' site: a hook that mkdocs.yml names."""

import pathlib
import re

import mmdr
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Gives every document the path that it has in the checkout, and adds those outside docs/."""
    documents = [file for file in files if file.src_dir == config.docs_dir]
    for file in documents:
        files.remove(file)
    paths = [pathlib.Path(file.abs_src_path) for file in documents]
    for path in [*paths, *map(pathlib.Path, config.watch)]:
        source = path.relative_to(ROOT).as_posix()
        files.append(File(source, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, **_) -> str:
    """Draws Mermaid's diagrams now, so that a reader's browser needs no script for them."""
    return re.sub(r"^```mermaid\n(.*?)^```$", _drawn, markdown, flags=re.MULTILINE | re.DOTALL)


def _drawn(block: re.Match) -> str:
    return f"<figure>{mmdr.render(block[1]).svg()}</figure>"
