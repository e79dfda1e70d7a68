"""The analysis can be used without Django."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

from pool_doctor import analysis


def test_nothing_but_the_standard_library_is_imported():
    modules = [f"pool_doctor.analysis.{module.name}" for module in pkgutil.iter_modules(analysis.__path__)]
    program = f"import sys, {', '.join(modules)}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not {"django", "numpy", "psycopg", "psycopg_pool"} & set(printed.split())
