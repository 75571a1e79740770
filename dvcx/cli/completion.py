"""dvcx completion: print a completion script. The scripts ask `dvcx __complete`, which cli/complete.py answers."""

from __future__ import annotations

from typing import Annotated, Literal

from typer import Argument, Context

from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app

app = app()

_BASH = r"""# dvcx completion for bash:  eval "$(dvcx completion bash)"
_dvcx() {
    local line word
    COMPREPLY=()
    while IFS= read -r line; do
        printf -v word '%q' "${line%%$'\t'*}"
        COMPREPLY+=("$word")
    done < <(dvcx __complete "$COMP_CWORD" "${COMP_WORDS[@]}" 2>/dev/null)
}
complete -o bashdefault -o default -F _dvcx dvcx
"""

_ZSH = r"""#compdef dvcx
# dvcx completion for zsh:  eval "$(dvcx completion zsh)", or save it as _dvcx in a directory of $fpath
_dvcx() {
    local line
    local -a items
    for line in "${(@f)$(dvcx __complete $((CURRENT - 1)) "${(@)words}" 2>/dev/null)}"; do
        [[ -n $line ]] && items+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    if (( ${#items} )); then
        _describe dvcx items
    else
        _files
    fi
}
if [[ ${funcstack[1]} == _dvcx ]]; then
    _dvcx "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _dvcx dvcx
fi
"""

_FISH = r"""# dvcx completion for fish:  dvcx completion fish | source
function __dvcx_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found (dvcx __complete (math (count $words) - 1) $words 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c dvcx -f -a '(__dvcx_complete)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@app.command("completion", cls=Verb)
def completion(
    ctx: Context, shell: Annotated[Literal["bash", "zsh", "fish"], Argument(metavar="SHELL", help="bash, zsh or fish.")]
) -> None:
    """Print a script that completes commands, options, tracked paths, stages, revisions and remotes.

    Examples:
      eval "$(dvcx completion bash)"      # in ~/.bashrc
      eval "$(dvcx completion zsh)"       # in ~/.zshrc
      dvcx completion fish > ~/.config/fish/completions/dvcx.fish

    Exits:
    """
    face: Face = ctx.obj
    face.answer({"shell": shell, "script": SCRIPTS[shell]}, lambda: SCRIPTS[shell].splitlines())
