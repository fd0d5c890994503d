# SPDX-License-Identifier: Apache-2.0
"""run_pymilvus.py SUITE: every scenario below, with the pymilvus of this Python environment."""
import sys

import runner
import scenario_quick  # noqa: F401  importing a module registers its cases
import scenario_schema  # noqa: F401
import scenario_search  # noqa: F401
import scenario_exact  # noqa: F401
import scenario_filter  # noqa: F401
import scenario_admin  # noqa: F401
import scenario_errors  # noqa: F401
import scenario_concurrent  # noqa: F401
import scenario_orm  # noqa: F401
import scenario_restart  # noqa: F401
import scenario_disk  # noqa: F401
import scenario_minhash  # noqa: F401
import scenario_kinds  # noqa: F401
import scenario_deep  # noqa: F401
import scenario_kept  # noqa: F401
import scenario_damage  # noqa: F401

if __name__ == "__main__":
    runner.run(sys.argv[1])
