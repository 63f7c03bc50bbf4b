# Sourced by the scripts beside it: makes .venv, installs the checkout into it, and repairs both.
# PYTHON names the interpreter to make it with.

export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
venv_python=.venv/bin/python
stamp=.venv/installed.stamp

fail() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit 1
}

python_version() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

fits() {
  case "$(python_version "$1")" in
    3.11 | 3.12 | 3.13) return 0 ;;
    *) return 1 ;;
  esac
}

# Prints the interpreter to make .venv with.
choose_python() {
  local candidate
  if [[ -n "${PYTHON:-}" ]]; then
    fits "$PYTHON" || fail "PYTHON=$PYTHON is $(python_version "$PYTHON" || echo 'no Python that runs'); \
Python 3.11, 3.12 or 3.13 is needed."
    printf '%s\n' "$PYTHON"
    return
  fi
  for candidate in python3 python3.13 python3.12 python3.11; do
    if fits "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  fail "found no Python 3.11, 3.12 or 3.13 (python3 is $(python_version python3 || echo 'missing')). \
Install one, or name it: PYTHON=/path/to/python3.12 $0"
}

# Whether .venv runs, with a version that fits and that PYTHON, where it is given, agrees with.
venv_is_sound() {
  fits "$venv_python" && "$venv_python" -c 'import pip' 2>/dev/null || return 1
  [[ -z "${PYTHON:-}" || "$(python_version "$PYTHON")" == "$(python_version "$venv_python")" ]]
}

make_venv() {
  local python version
  python="$(choose_python)"
  version="$(python_version "$python")"
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python has no venv module that works. On Debian or Ubuntu: apt install python$version-venv"
  printf 'Making .venv with Python %s\n' "$version"
  "$python" -m venv --clear .venv
}

# Installs the checkout with the extras named ("" for none), unless that is already done. The stamp
# is removed first and written last, so that an interrupted installation is taken up again.
ensure_installed() {
  local extras="$1" wanted found=""
  venv_is_sound || make_venv
  wanted="$(cat setup.cfg pyproject.toml constraints.txt <(pwd) | cksum)"
  [[ ! -f "$stamp" ]] || found="$(<"$stamp")"
  # What was installed with extras serves a script that asks for none.
  [[ "$found" == "$wanted $extras" || (-z "$extras" && "$found" == "$wanted "*) ]] && return
  rm -f "$stamp"
  printf 'Installing into .venv: some minutes and nearly 3 GB, the first time\n'
  "$venv_python" -m pip install -q --disable-pip-version-check -c constraints.txt \
    -e ".${extras:+[$extras]}" ||
    fail 'the installation failed. Run the same command again: it goes on where it stopped.'
  printf '%s %s\n' "$wanted" "$extras" >"$stamp"
  printf 'Installed in %d s\n' "$SECONDS"
}
