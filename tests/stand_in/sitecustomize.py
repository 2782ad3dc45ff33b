"""CuPy's place is taken by `tests.device_arrays` in every process that has this folder on its path.

Python imports this module when it starts; the stand-in is made when CuPy is first imported, with
as many devices as the environment variable ``STAND_IN_DEVICES`` says.
"""

import importlib
import importlib.machinery
import os
import sys

NAMES = ("cupy", "array_api_compat.cupy", "cupy_backends.cuda.libs")
held = []


class Finder:
    """Finds the stand-in's modules before whatever is installed."""

    @staticmethod
    def find_spec(name, _path=None, _target=None):
        return importlib.machinery.ModuleSpec(name, Finder) if name in NAMES else None

    @staticmethod
    def create_module(spec):
        if not held:
            context = importlib.import_module("tests.device_arrays").device_arrays(
                devices=int(os.environ.get("STAND_IN_DEVICES", "1"))
            )
            context.__enter__()
            held.append(context)  # or it would be collected, and so end
        return sys.modules[spec.name]

    @staticmethod
    def exec_module(module):
        """Do nothing: the module is complete."""


sys.meta_path.insert(0, Finder)
