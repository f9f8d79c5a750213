"""How is a file of checks run? Every function whose name begins with `check_` is one."""

import traceback


def run(names, what):
    """Runs the checks among these names; 1 where one failed, or there was none."""
    passed = failed = 0
    for name, check in list(names.items()):
        if not name.startswith("check_"):
            continue
        try:
            check()
            passed += 1
        except Exception:
            failed += 1
            print(f"FAILED {name}")
            traceback.print_exc()
    print(f"{passed} passed, {failed} failed ({what})")
    return 1 if failed or not passed else 0
