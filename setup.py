# SPDX-License-Identifier: Apache-2.0
"""All but one thing is in setup.cfg: the bundles, which stand beside the library, travel inside it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["monai_ext*"]), "monai_ext.bundles"],
    package_dir={"monai_ext.bundles": "bundles"},
    # what a bundle is, and nothing that a run left in it
    package_data={
        "monai_ext": ["py.typed", "apps/view/page/*"],
        "monai_ext.bundles": ["*/LICENSE", "*/configs/*", "*/docs/*"],
    },
)
