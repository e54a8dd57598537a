"""Reading syntax trees: finding a definition, writing it down, listing the names it takes."""

import ast
import copy
import dis
import types
from collections.abc import Iterator

_LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_GLOBALS"}
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD"}

Definition = ast.stmt | ast.Lambda


def by_code(tree: ast.AST, code: types.CodeType) -> Iterator[Definition]:
    """Find the function of a code object: several only where one line holds several lambdas."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if node.name == code.co_name and first == code.co_firstlineno:
                yield node
        elif (
            isinstance(node, ast.Lambda)
            and code.co_name == "<lambda>"
            and node.lineno == code.co_firstlineno
        ):
            yield node


def by_qualname(tree: ast.AST, path: list[str]) -> Iterator[ast.ClassDef]:
    path = [part for part in path if part != "<locals>"]
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from by_qualname(node, path)
        elif node.name == path[0] and len(path) > 1:
            yield from by_qualname(node, path[1:])
        elif node.name == path[0] and isinstance(node, ast.ClassDef):
            yield node


class _WithoutDocstrings(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        scopes = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, scopes) and body and _is_text(body[0]):
            node.body = body[1:] or [ast.Pass()]
        return node


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def dump(node: ast.AST) -> str:
    """Write the syntax tree without positions, comments and docstrings."""
    return ast.dump(_WithoutDocstrings().visit(copy.deepcopy(node)), annotate_fields=False)


class _WithoutNonlocal(ast.NodeTransformer):
    def visit_Nonlocal(self, _: ast.Nonlocal) -> ast.AST:
        return ast.Pass()


def names_of(node: Definition) -> Iterator[tuple[str, ...]]:
    """List the names a definition takes from its module, each with the attributes read from it.

    The compiler resolves the scopes: standing alone, what the definition does not bind itself is
    a global.
    """
    statement: ast.stmt = ast.Expr(node) if isinstance(node, ast.Lambda) else node
    module = ast.Module([copy.deepcopy(statement)], type_ignores=[])
    alone = ast.fix_missing_locations(_WithoutNonlocal().visit(module))
    yield from _loaded(compile(alone, "<definition>", "exec", dont_inherit=True))


def _loaded(code: types.CodeType) -> Iterator[tuple[str, ...]]:
    chain: list[str] = []
    for instruction in dis.get_instructions(code):
        if chain and instruction.opname in _ATTRIBUTES:
            chain.append(instruction.argval)
            continue
        if chain:
            yield tuple(chain)
        chain = [instruction.argval] if instruction.opname in _LOADS else []
    if chain:
        yield tuple(chain)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _loaded(constant)
