"""Files that people write wrongly: each is one error that names the place and says how to repair it."""

# ruff: noqa: E501
from __future__ import annotations

import pytest

from dvcx.core.pipeline import checking
from dvcx.core.pipeline.externals import is_url
from dvcx.core.pipeline.graph import build
from dvcx.errors import DvcxError
from dvcx.ops.records import linked, read_pipeline

# What is written, the exit code, the message and how the hint begins.
WRONG = [
    (b'stages:\n  a:\n  cmd: x\n', 2, 'dvcx.yaml:2:5: stages.a must be a mapping, not nothing', "write its keys below 'a:', each with ': ' behind it, two spaces deeper"),
    (b'stages:\na:\n  cmd: x\n', 2, "dvcx.yaml:2:1: unknown key 'a'", "stages stand below a line 'stages:', and are indented"),
    (b'stages:\n  a:\n    cmd: x\n   deps: [b]\n', 4, 'dvcx.yaml:4:4: broken YAML: did not find expected key', 'begin it in the same column as the keys around it'),
    (b'stages:\n\ta:\n\t\tcmd: x\n', 4, 'dvcx.yaml:2:1: broken YAML: found character that cannot start any token', 'indent with spaces: YAML does not allow tabs'),
    (b'stages:\n  a:\n    cmd: x\n\tdeps: [b]\n', 4, 'dvcx.yaml:4:1: broken YAML: found a tab character that violates indentation', 'indent with spaces: YAML does not allow tabs'),
    (b'stages:\n  a:\n    cmd: x\n    dep: [b]\n', 2, "dvcx.yaml:4:5: stages.a: unknown key 'dep'", "did you mean 'deps'?"),
    (b'stages:\n  a:\n    cmd: x\n    outputs: [b]\n', 2, "dvcx.yaml:4:5: stages.a: unknown key 'outputs'", "did you mean 'outs'?"),
    (b'stages:\n  a:\n    command: x\n', 2, "dvcx.yaml:3:5: stages.a: unknown key 'command'", "did you mean 'cmd'?"),
    (b'stage:\n  a:\n    cmd: x\n', 2, "dvcx.yaml:1:1: unknown key 'stage'", "did you mean 'stages'?"),
    (b'a:\n  cmd: x\n  outs: [b]\n', 2, "dvcx.yaml:1:1: unknown key 'a'", "stages stand below a line 'stages:', and are indented"),
    (b'stages:\n  - a:\n      cmd: x\n', 2, 'dvcx.yaml:2:3: stages must be a mapping, not a list', "take the '-' away: each name stands at the beginning of its line, with"),
    (b'stages:\n  - name: a\n    cmd: x\n', 2, 'dvcx.yaml:2:3: stages must be a mapping, not a list', "take the '-' away: each name stands at the beginning of its line, with"),
    (b'stages:\n  a:\n    cmd: x\n    deps:\n      b: c\n', 2, 'dvcx.yaml:5:7: stages.a.deps must be a list, not a mapping', 'write it as a list: deps: [b]'),
    (b'stages:\n  a:\n    cmd: x\n    deps:\n      b:\n      c:\n', 2, 'dvcx.yaml:5:7: stages.a.deps must be a list, not a mapping', 'write it as a list: deps: [b, c]'),
    (b'stages:\n  a:\n    cmd: x\n    deps: b\n', 2, 'dvcx.yaml:4:11: stages.a.deps must be a list, not text', 'write it as a list: deps: [b]'),
    (b'stages:\n  a:\n    cmd: x\n    outs: b c\n', 2, 'dvcx.yaml:4:11: stages.a.outs must be a list, not text', 'write it as a list: outs: [b c]'),
    (b'stages:\n  a:\n    cmd: x\n    params:\n      lr: 0.1\n', 2, 'dvcx.yaml:5:7: stages.a.params must be a list, not a mapping', 'write it as a list: params: [lr]'),
    (b'stages:\n  a:\n    cmd: x\n    params:\n    - p.yaml: lr\n', 2, 'dvcx.yaml:5:15: stages.a.params[0].p.yaml must be a list, not text', 'write it as a list: p.yaml: [lr]'),
    (b'stages:\n  a:\n    cmd:\n    outs: [b]\n', 2, 'dvcx.yaml:3:9: stages.a.cmd must be text, not nothing', "say what it runs: cmd: python train.py; a command with ': ' in it is p"),
    (b"stages:\n  a:\n    cmd: ''\n", 2, 'dvcx.yaml:3:5: stages.a.cmd is empty', 'say what it runs, for example: cmd: python train.py'),
    (b'stages:\n  a:\n    cmd: echo foo: bar\n', 4, 'dvcx.yaml:3:18: broken YAML: mapping values are not allowed in this context', "put a value with ': ' in it in quotes"),
    (b'stages:\n  a:\n    cmd: {run: x}\n', 2, 'dvcx.yaml:3:10: stages.a.cmd must be text, not a mapping', "say what it runs: cmd: python train.py; a command with ': ' in it is p"),
    (b'stages:\n  a:\n    cmd:\n    - echo a: b\n', 2, 'dvcx.yaml:4:7: stages.a.cmd[0] must be text, not a mapping', 'put it in quotes if it is meant as text'),
    (b'stages:\n  a:\n    cmd: *x\n', 4, "dvcx.yaml:3:10: no anchor '&x' before this alias", "put the value in quotes if '*' is meant as text"),
    (b'stages:\n  a:\n    cmd: %x\n', 4, 'dvcx.yaml:3:10: broken YAML: found character that cannot start any token', 'a value that begins with % @ ` * or & is put in quotes'),
    (b'stages:\n  a:\n    cmd: `x`\n', 4, 'dvcx.yaml:3:10: broken YAML: found character that cannot start any token', 'a value that begins with % @ ` * or & is put in quotes'),
    (b'stages:\n  a:\n    cmd: @x\n', 4, 'dvcx.yaml:3:10: broken YAML: found character that cannot start any token', 'a value that begins with % @ ` * or & is put in quotes'),
    (b"stages:\n  a:\n    cmd: 'x\n    outs: [b]\n", 4, 'dvcx.yaml:5:1: broken YAML: found unexpected end of stream; the quote in 3:10 is not closed', 'repair the file there; git diff shows what changed since the last comm'),
    (b'stages:\n  a:\n    cmd: "x" y\n', 4, 'dvcx.yaml:3:14: broken YAML: did not find expected key', 'a value that begins with a quote or a bracket ends with it: put all of'),
    (b'stages:\n  a:\n    cmd: 5\n', 2, 'dvcx.yaml:3:10: stages.a.cmd must be text, not a number', 'put it in quotes if it is meant as text'),
    (b'stages:\n  a:\n    cmd: x\n    cmd: y\n', 4, "dvcx.yaml:4:5: key 'cmd' twice (first in line 3)", 'remove or rename one of the two'),
    (b'stages:\n  a:\n    cmd: {x} y\n', 4, 'dvcx.yaml:3:14: broken YAML: did not find expected key', 'a value that begins with a quote or a bracket ends with it: put all of'),
    (b'stages:\n  a:\n    foreach: [1]\n    do:\n      cmd: x\n      outs: [${item}.csv]\n', 4, "dvcx.yaml:6:15: broken YAML: did not find expected ',' or ']'", 'inside [ ] and { } a value with ${ is put in quotes: ["model-${name}.t'),
    (b'stages:\n  a:\n    foreach: [1]\n    do: {cmd: x ${item}, outs: [a]}\n', 4, "dvcx.yaml:4:18: broken YAML: did not find expected ',' or '}'", 'inside [ ] and { } a value with ${ is put in quotes: ["model-${name}.t'),
    (b'stages:\n  a:\n    cmd: x {{ item }}\n    outs:\n    - {{ out }}\n', 4, 'dvcx.yaml:5:8: a key must be plain text', 'a value that begins with { or [ is put in quotes; a template is ${name'),
    (b'stages:\n  a:\n    foreach: [1, 2]\n    cmd: x ${item}\n', 2, "dvcx.yaml:4:5: stages.a: unknown key 'cmd'", "what foreach repeats stands below 'do': write 'cmd' there, indented"),
    (b'stages:\n  a:\n    foreach: [1, 2]\n    do: x ${item}\n', 2, 'dvcx.yaml:4:9: stages.a.do must be a mapping, not text', "write its keys below 'do:', each with ': ' behind it, two spaces deepe"),
    (b'stages:\n  a:\n    foreach: [1, 2]\n    deps: [b]\n    do:\n      cmd: x ${item}\n', 2, "dvcx.yaml:4:5: stages.a: unknown key 'deps'", "what foreach repeats stands below 'do': write 'deps' there, indented"),
    (b'stages:\n  a:\n    foreach: 3\n    do:\n      cmd: x ${item}\n', 2, 'dvcx.yaml:3:14: stages.a.foreach must be a list or a mapping, not a number', 'for example: foreach: [small, large]'),
    (b'stages:\n  a:\n    for_each: [1]\n    do:\n      cmd: x ${item}\n', 2, "dvcx.yaml:3:5: stages.a: unknown key 'for_each'", "did you mean 'foreach'?"),
    (b'stages:\n  a:\n    matrix: {m: [1]}\n    foreach: [1]\n    do:\n      cmd: x ${item}\n', 2, "dvcx.yaml:3:5: stages.a: unknown key 'matrix'", "use one of the two: with matrix, 'cmd' and all the rest stand beside i"),
    (b'stages:\n  a:\n    matrix: [1, 2]\n    cmd: x ${item}\n', 2, 'dvcx.yaml:3:13: stages.a.matrix must be a mapping, not a list', "take the '-' away: each name stands at the beginning of its line, with"),
    (b'stages:\n  a:\n    matrix: {m: [1]}\n    do:\n      cmd: x ${item.m}\n', 2, "dvcx.yaml:3:5: stages.a: unknown key 'matrix'", "use one of the two: with matrix, 'cmd' and all the rest stand beside i"),
    (b'stages:\n  a:\n    cmd: x ${item}\n', 2, "dvcx.yaml:3:10: stages.a.cmd: 'item' is not defined", "'item' is there in the 'do' of a foreach, and beside matrix"),
    (b'stages:\n  a:\n    cmd: x ${HOME}\n', 2, "dvcx.yaml:3:10: stages.a.cmd: 'HOME' is not defined", 'a variable of the shell is written \\${HOME}'),
    (b'stages:\n  a:\n    cmd: x ${1:-y}\n', 2, "dvcx.yaml:3:10: stages.a.cmd: '1:-y' is not defined", 'a variable of the shell is written \\${1:-y}'),
    (b'stages:\n  a:\n    cmd: x\n  a:\n    cmd: y\n', 4, "dvcx.yaml:4:3: key 'a' twice (first in line 2)", 'remove or rename one of the two'),
    (b'stages:\n  a:\n    cmd: x\n    outs: [o]\n  b:\n    cmd: y\n    outs: [o]\n', 11, "'o' has two owners: stage 'a' (dvcx.yaml:4:12) and stage 'b' (dvcx.yaml:7:12)", 'one path has one owner: write one of them elsewhere, or stop tracking '),
    (b'stages:\n  a:\n    cmd: x\n    outs: [d]\n  b:\n    cmd: y\n    outs: [d/o]\n', 11, "'d/o' of stage 'b' (dvcx.yaml:7:12) lies inside 'd' of stage 'a' (dvcx.yaml:4:12)", 'one path has one owner: write one of them elsewhere, or stop tracking '),
    (b'stages:\n  a:\n    cmd: x\n    deps: [p]\n    outs: [q]\n  b:\n    cmd: y\n    deps: [q]\n    outs: [p]\n', 11, 'the stages need one another in a circle: a → b → a; b reads q (dvcx.yaml:8:12), which a writes (dvcx.yaml:5:12); a reads p (dvcx.yaml:4:12), which b writes (dvcx.yaml:9:12)', 'let one of them read or write another path'),
    (b'vars:\n- a: ${b}\n- b: ${a}\nstages:\n  a:\n    cmd: x ${a}\n', 2, 'dvcx.yaml:2:6: vars[0].a: templates are not allowed in vars', 'write the value itself'),
    (b'vars:\n  a: 1\nstages:\n  a:\n    cmd: x ${a}\n', 2, 'dvcx.yaml:2:3: vars must be a list, not a mapping', "put '- ' before each of its lines: it is a list"),
    (b'stages:\n  a:\n    <<: *base\n    cmd: x\n', 4, "dvcx.yaml:3:9: no anchor '&base' before this alias", "put the value in quotes if '*' is meant as text"),
    (b'stages:\n  a:\n    <<: base\n    cmd: x\n', 4, "dvcx.yaml:3:9: '<<' needs a mapping, or a list of mappings", 'repair the file there; git diff shows what changed since the last comm'),
    (b'stages:\n  a:\n    cmd: !env HOME\n', 9, "dvcx.yaml:3:10: tag '!env' is not allowed", 'remove the tag'),
    (b'stages:\r  a:\r    cmd: x\r', 4, "dvcx.yaml:1:8: control character '\\r'", 'remove it, or write it as an escape in double quotes'),
    (b'\xff\xfes\x00t\x00a\x00g\x00e\x00s\x00:\x00\n\x00 \x00 \x00a\x00:\x00\n\x00 \x00 \x00 \x00 \x00c\x00m\x00d\x00:\x00 \x00x\x00\n\x00', 4, 'dvcx.yaml:1:1: not valid UTF-8', 'save the file as UTF-8'),
    (b'stages:\n  a:\n    cmd: echo gr\xfc\xdf\n', 4, 'dvcx.yaml:3:17: not valid UTF-8', 'save the file as UTF-8'),
    (b'stages:\n  a:\n    cmd: x\x00\n', 4, "dvcx.yaml:3:11: control character '\\x00'", 'remove it, or write it as an escape in double quotes'),
    (b'stages:\n  a:\n\xc2\xa0\xc2\xa0\xc2\xa0\xc2\xa0cmd: x\n', 2, "dvcx.yaml:3:1: unknown key '\\xa0\\xa0\\xa0\\xa0cmd'", 'it begins or ends with a blank that is no plain space: indent with pla'),
    (b'stages:\n  a:\n    cmd: x\n    frozen: \xe2\x80\x9ctrue\xe2\x80\x9d\n', 2, 'dvcx.yaml:4:13: stages.a.frozen must be true or false, not text', 'write frozen: false, its default, or frozen: true'),
    (b'stages:\n  a:\n    cmd: x\n---\nstages:\n  b:\n    cmd: y\n', 4, 'dvcx.yaml:4:1: a second document', 'keep one document per file'),
    (b'stages:\n<<<<<<< HEAD\n  a:\n    cmd: x\n=======\n  a:\n    cmd: y\n>>>>>>> b\n', 4, 'dvcx.yaml:2:1: it holds both sides of a merge', 'choose what stays, and take the marks out; then git add'),
    (b'stages:\n  1:\n    cmd: x\n    otus: [a]\n', 2, "dvcx.yaml:4:5: stages.1: unknown key 'otus'", "did you mean 'outs'?"),
    (b'stages:\n  my stage:\n    cmd: x\n', 2, "dvcx.yaml:2:3: 'my stage' cannot name a stage", "use letters, digits, '_' and '-', starting without '-'"),
    (b'stages:\n  a.b:\n    cmd: x\n', 2, "dvcx.yaml:2:3: 'a.b' cannot name a stage", "use letters, digits, '_' and '-', starting without '-'"),
    (b'stages:\n  a@b:\n    cmd: x\n', 2, "dvcx.yaml:2:3: 'a@b' cannot name a stage", "use letters, digits, '_' and '-', starting without '-'"),
    (b'stages:\n  a:\n    cmd: x\n    frozen: yes\n', 2, 'dvcx.yaml:4:13: stages.a.frozen must be true or false, not text', 'write frozen: false, its default, or frozen: true'),
    (b'stages:\n  a:\n    cmd: x\n    outs:\n    - o:\n        cache: no\n', 2, 'dvcx.yaml:6:16: stages.a.outs[0].o.cache must be true or false, not text', 'write cache: true, its default, or cache: false'),
    (b'stages:\n  a:\n    cmd: x\n    outs:\n    - o:\n      cache: false\n', 2, 'dvcx.yaml:6:14: stages.a.outs[0].cache must be a mapping, not true or false', "indent 'cache: …' deeper than the path it is about"),
    (b'stages:\n  a:\n    cmd: x\n    outs:\n    - o\n      cache: false\n', 4, 'dvcx.yaml:6:12: broken YAML: mapping values are not allowed in this context', "the line before lacks ':' at its end, or this one is indented too deep"),
    (b'stages:\n  a:\n    cmd:x\n', 2, 'dvcx.yaml:3:5: stages.a must be a mapping, not text', "write its keys below 'a:', each with ': ' behind it, two spaces deeper"),
    (b'stages:\n  a:\n    cmd: x\n    deps:\n    -b\n    -c\n', 4, "dvcx.yaml:6:5: broken YAML: could not find expected ':'", "a key has ': ' behind it, an item of a list '- ' before it"),
    (b'stages:\n  a\n    cmd: x\n', 4, 'dvcx.yaml:3:8: broken YAML: mapping values are not allowed in this context', "the line before lacks ':' at its end, or this one is indented too deep"),
    (b'stages:\n  a:\n    cmd: x\n    deps: [a, b\n    outs: [c]\n', 4, "dvcx.yaml:5:9: broken YAML: did not find expected ',' or ']'", 'repair the file there; git diff shows what changed since the last comm'),
    (b'stages:\n  a:\n    cmd: x\n    outs: [/tmp/o]\n', 9, "dvcx.yaml:4:12: stages.a.outs[0]: unsafe path '/tmp/o': an output leaves the project", 'write it to a path in the project, and let dvcx push send it (the outp'),
    (b'stages:\n  a:\n    cmd: x\n    outs: [../o]\n', 9, "dvcx.yaml:4:12: stages.a.outs[0]: unsafe path '../o': an output leaves the project", 'write it to a path in the project, and let dvcx push send it (the outp'),
    (b"stages:\n  a:\n    cmd: x\n    deps: ['C:\\data\\x.csv']\n", 9, "dvcx.yaml:4:12: stages.a.deps[0]: unsafe path 'C:\\data\\x.csv': it names a drive", 'a path must be relative and stay inside the project; repair the record'),
    (b"stages:\n  a:\n    cmd: x\n    outs: ['c:/x']\n", 9, "dvcx.yaml:4:12: stages.a.outs[0]: unsafe path 'c:/x': it names a drive", 'a path must be relative and stay inside the project; repair the record'),
    (b'stages:\n  a:\n    cmd: x\n    deps: [*.csv]\n', 4, 'dvcx.yaml:4:13: broken YAML: did not find expected alphabetic or numeric character', 'a value that begins with % @ ` * or & is put in quotes'),
    (b'stages:\n  a:\n    cmd: x\n    deps:\n    -\n', 2, 'dvcx.yaml:5:6: stages.a.deps[0] must be a path, not nothing', "put it in quotes if it is a file's name"),
    (b'stages:\n  a:\n    cmd: x\n    deps:\n    - [a, b]\n', 2, 'dvcx.yaml:5:7: stages.a.deps[0] must be a path, not a list', "put it in quotes if it is a file's name"),
    (b'stages:\n  a:\n    cmd: x\n    deps: [o]\n    outs: [o]\n', 11, "dvcx.yaml:5:12: stages.a: it reads 'o' (dvcx.yaml:5:12) and writes 'o', which overlap: a → a", 'write the output to another path'),
    (b'stages:\n  a:\n    cmd: x\n    wdir: /abs\n', 9, "dvcx.yaml:4:11: stages.a.wdir: unsafe path '/abs': it is absolute", 'a path must be relative and stay inside the project; repair the record'),
    (b'[1, 2]', 2, "dvcx.yaml: it must hold 'stages:', not a list", 'start it with a line: stages:'),
    (b'hello\n', 2, "dvcx.yaml: it must hold 'stages:', not text", 'start it with a line: stages:'),
    (b'stages:\n  a:\n', 2, 'dvcx.yaml:2:5: stages.a must be a mapping, not nothing', "write its keys below 'a:', each with ': ' behind it, two spaces deeper"),
    (b'stages:\n  a: python x.py\n', 2, 'dvcx.yaml:2:6: stages.a must be a mapping, not text', "write its keys below 'a:', each with ': ' behind it, two spaces deeper"),
    (b'stages:\n  a:\n    cmd: x\n    timeout: 1 hour\n', 2, "dvcx.yaml:4:14: stages.a.timeout must be a time, not '1 hour'", 'for example: timeout: 90, or 30m, or 1h30m'),
    (b'stages:\n  a:\n    cmd: x\n    when: lr = 3\n', 2, "dvcx.yaml:4:11: stages.a.when: in 'lr = 3', character 4: '=' is not understood", 'compare with =='),
    (b'stages:\n  a:\n    cmd: x\n    live:\n      dvclive: {summary: true}\n', 2, "dvcx.yaml:4:5: stages.a: unknown key 'live'", 'it understands: cmd, deps, params, outs, metrics, plots, wdir, desc, m'),
    (b'stages:\n  a:\n    cmd: x\n    desc: [a]\n', 2, 'dvcx.yaml:4:11: stages.a.desc must be text, not a list', 'put it in quotes if it is meant as text'),
    (b"stages:\n  a:\n    cmd: x\n    deps: ['stage:b']\n", 5, "dvcx.yaml:4:12: stage 'a': there is no stage 'b' to depend on", 'dvcx stage list shows them all'),
    (b'include: dvcx.yaml\nstages: {}\n', 2, "dvcx.yaml:1:10: include: 'dvcx.yaml' is part of the project by itself", 'include files that are not named dvcx.yaml'),
]  # fmt: skip


@pytest.mark.parametrize(("data", "code", "message", "hint"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_file(data: bytes, code: int, message: str, hint: str) -> None:
    with pytest.raises(DvcxError) as caught:
        pipeline, _ = read_pipeline(data, "dvcx.yaml", "", lambda path, limit: None, ("store_true", "nargs"))
        build(linked({"dvcx.yaml": pipeline}, "/project"), ())
    assert (caught.value.exit_code, caught.value.message) == (code, message)
    assert caught.value.hint.startswith(hint) and hint


@pytest.mark.parametrize(("written", "url"), [("c:/x", False), ("s3://b", True), ("x://y", True), ("a b://c", False)])
def test_what_is_a_url(written: str, url: bool) -> None:
    assert is_url(written) == url
    assert bool(checking.is_url(written)) == url
