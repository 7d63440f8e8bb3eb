"""The directive ``architecture``: a picture of a package, drawn from its imports."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import folder_picture
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Architecture(SphinxDirective):
    """``.. architecture:: package``: its picture, in the colours of the page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Draw both pictures and show them."""
        self.env.note_reread()  # the source is not among the files that Sphinx watches
        name = self.arguments[0]
        spec = find_spec(name)
        assert spec is not None, name
        assert spec.origin is not None, name
        package = folder_picture.read(Path(spec.origin).parent)
        images: list[nodes.Node] = []
        for theme in folder_picture.COLOURS:
            file = f"_build/architecture-{theme}.svg"
            folder_picture.draw(package, Path(self.env.srcdir) / file, theme)
            alt = (
                f"The folders of {name} and their imports; the table has them in words."
            )
            classes = [f"only-{theme}", "architecture"]
            images.append(nodes.image(uri=f"/{file}", alt=alt, classes=classes))
        return images


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("architecture", Architecture)
    return {"parallel_read_safe": True}
