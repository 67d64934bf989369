# Shared by the scripts in Tools; sourced, never run.
# shellcheck shell=bash disable=SC2034

if [[ -z "${HOME:-}" ]]; then export HOME=~; fi # the shell then asks the password file
vkattn_repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
vkattn_toolchain="${VKATTN_TOOLCHAIN:-${XDG_CACHE_HOME:-$HOME/.cache}/vulkan-attention/toolchain}"
vkattn_toolchain="$(realpath -sm "$vkattn_toolchain")"
# Raised when what is written into the folder changes, so that older folders are made anew.
vkattn_recipe=1

case "$(uname -m)" in
  x86_64) vkattn_triplet=x86_64-linux-gnu vkattn_loader=ld-linux-x86-64.so.2 ;;
  aarch64) vkattn_triplet=aarch64-linux-gnu vkattn_loader=ld-linux-aarch64.so.1 ;;
  *) vkattn_triplet="" vkattn_loader="" ;;
esac
vkattn_libraries="$vkattn_toolchain/root/usr/lib/$vkattn_triplet"

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# Prints the script's leading comment, which is its help text.
show_help() {
  sed -n '2,/^[^#]/{/^#/!d;s/^# \{0,1\}//;p}' "$0"
}

# The folder is whole, made by this recipe, and still where its absolute paths say it is.
toolchain_complete() {
  [[ -n "$vkattn_triplet" && -f "$vkattn_toolchain/complete" ]] || return 1
  local first second
  { read -r first && read -r second; } <"$vkattn_toolchain/complete" || return 1
  # A newer clone's folder serves an older clone too; otherwise the two would replace it in turns.
  [[ "$first" =~ ^recipe\ ([0-9]+)$ ]] || return 1
  ((BASH_REMATCH[1] >= vkattn_recipe)) && [[ "$second" == "folder $vkattn_toolchain" ]]
}

# The version of one package, as the stamp names it.
toolchain_version() {
  sed -n "s/^$1 //p" "$vkattn_toolchain/complete"
}

# A C library older than a program's own cannot start it, so the folder is for older systems only.
toolchain_runs_programs() {
  toolchain_complete || return 1
  local own system
  own="$(toolchain_version libc6)"
  system="$(getconf GNU_LIBC_VERSION 2>/dev/null || true)"
  [[ "$(printf '%s\n%s\n' "${system##* }" "${own%%-*}" | sort -V | head -n 1)" == "${system##* }" ]]
}

# The Vulkan driver manifests the system's loader would read, one per line.
system_manifests() {
  local folder folders list
  folders="${XDG_CONFIG_HOME:-$HOME/.config}:/etc/xdg:/usr/local/etc:/etc"
  folders+=":${XDG_DATA_HOME:-$HOME/.local/share}:${XDG_DATA_DIRS:-/usr/local/share:/usr/share}"
  IFS=: read -r -a list <<<"$folders"
  for folder in "${list[@]}"; do
    compgen -G "$folder/vulkan/icd.d/*.json" || true
  done
}

# A GPU counts when its device node can be opened and a driver for it is registered. A node alone
# proves little (virtual machines have display-only ones), so vulkaninfo has the last word if present.
gpu_present() {
  local node manifest summary nvidia=false rendering=false candidate=false
  for node in /dev/nvidiactl /dev/dxg; do
    [[ -r "$node" && -w "$node" ]] && nvidia=true
  done
  for node in /dev/dri/renderD*; do
    [[ -r "$node" && -w "$node" ]] && rendering=true
  done
  $nvidia || $rendering || return 1
  while read -r manifest; do
    case "${manifest##*/}" in
      lvp_* | *swiftshader*) ;;
      nvidia* | dzn_*) $nvidia && candidate=true ;;
      *) $rendering && candidate=true ;;
    esac
  done < <(system_manifests)
  $candidate || return 1
  command -v vulkaninfo >/dev/null || return 0
  summary="$(timeout 20 vulkaninfo --summary 2>/dev/null)" || true
  grep -Eq 'PHYSICAL_DEVICE_TYPE_(DISCRETE|INTEGRATED|VIRTUAL)_GPU' <<<"$summary"
}
