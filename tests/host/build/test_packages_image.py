"""The image with a model's packages has a name of its own for each list of packages."""

from types import SimpleNamespace

from trtyard.build.packages_image import PACKAGES_LABEL, image_with_packages
from trtyard.core.files import sha256_of
from trtyard.core.packages import FACTS_FILE

ROW = "trtyard/rtx-1.7:abc"


def name_for(folder, packages):
    folder.mkdir(parents=True)
    (folder / FACTS_FILE).write_text(packages)
    labels = {PACKAGES_LABEL: sha256_of(folder / FACTS_FILE)}
    base = SimpleNamespace(id="sha256:1", attrs={"RootFS": {"Layers": ["a"]}})
    built = SimpleNamespace(
        id="sha256:2",
        attrs={"RootFS": {"Layers": ["a", "b"]}},
        labels=labels,
        history=lambda: [{"CreatedBy": "COPY"}],
    )
    images = SimpleNamespace(get=lambda name: base if name == ROW else built)
    return image_with_packages(
        SimpleNamespace(images=images, info=lambda: {"ID": "x"}), ROW, folder
    )


def test_packages_that_were_resolved_again_get_another_image(tmp_path):
    first = name_for(tmp_path / "1" / "key", "timm 1.0")
    assert first.startswith("trtyard/rtx-1.7-with:")
    assert name_for(tmp_path / "2" / "key", "timm 1.1") != first
    assert name_for(tmp_path / "3" / "other", "timm 1.0") == first
