#!/usr/bin/env bash
# The whole gate: format, lint, types, tests. Every step runs even when an earlier one failed, so one run shows all.
#
#   tests/check.sh                  everything, quick tests
#   tests/check.sh --slow           everything, slow tests too
#   tests/check.sh format lint      only the named steps
#
# WORKERS=4 changes the number of test processes (2).
set -uo pipefail
cd "$(dirname "$0")/.."

# The environment of the Makefile where there is one, else whatever is active (an installed wheel, for instance).
if [ -x .venv/bin/python ]; then PATH="$PWD/.venv/bin:$PATH"; fi

sources=(graphrewrite passes custom_ops models)
markers="not slow and not bench"
steps=()
for word in "$@"; do
    case "$word" in
        --slow) markers="not bench" ;;
        format | lint | types | tests) steps+=("$word") ;;
        *) echo "check.sh: unknown word '$word'; known: --slow format lint types tests" >&2; exit 2 ;;
    esac
done
[ ${#steps[@]} -gt 0 ] || steps=(format lint types tests)

format() {
    ruff format --check --output-format concise . || { echo "to mend: .venv/bin/ruff format ."; return 1; }
}

lint() {
    long_files
    ruff check --quiet --output-format concise .
}

# A report, not a verdict: a file that grows past 400 lines is usually two ideas.
long_files() {
    find "${sources[@]}" tests -name '*.py' -exec wc -l {} + | awk '$2 != "total" && $1 > 400 { print "  long file: " $2 " (" $1 " lines)" }'
}

# In the checkout root mypy silently sees only the bare folder `graphrewrite/`, and it cannot follow the hooks of an
# editable install. So it gets a tree of links in the shape of the installed package, and its file count is checked.
types() {
    link_tree || return 1
    local expected output seen
    expected=$(python_files | wc -l)
    output=$(cd build/types && mypy --config-file ../../pyproject.toml --cache-dir ../mypy-cache -p graphrewrite -p tests 2>&1)
    local status=$?
    echo "$output"
    seen=$(echo "$output" | sed -nE 's/.*(checked|found in) ([0-9]+) source files?.*/\2/p' | tail -1)
    if [ "${seen:-0}" -lt "$expected" ]; then
        echo "mypy saw ${seen:-0} of $expected files; the rest were not checked. Is an __init__.py missing, or build/types stale?"
        return 1
    fi
    return $status
}

python_files() {
    find "${sources[@]}" tests -name '*.py' -not -path '*/__pycache__/*'
}

link_tree() {
    local tree=build/types entry
    mkdir -p $tree/graphrewrite
    find $tree -xtype l -delete
    for entry in graphrewrite/*; do
        case "$entry" in */__pycache__) ;; *) ln -sfn "$PWD/$entry" "$tree/$entry" ;; esac
    done
    for entry in passes custom_ops models; do ln -sfn "$PWD/$entry" "$tree/graphrewrite/$entry"; done
    ln -sfn "$PWD/tests" $tree/tests
}

# Two test processes share the machine, so each stays on one core.
tests() {
    OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" pytest -q -n "${WORKERS:-2}" --dist worksteal -m "$markers"
}

failed=()
for step in "${steps[@]}"; do
    echo "== $step"
    "$step" || failed+=("$step")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "check.sh: failed: ${failed[*]}" >&2
    exit 1
fi
