"""Prints documentation strings of the standard library as JSON Lines. Runs alone, in an interpreter of its own.

Only the modules named here are imported; none of them opens a window, a browser or a connection when it is.
"""

import builtins
import importlib
import inspect
import json
import re
import sys
import types
import warnings

_NAMES = """
abc argparse array ast asyncio base64 bdb binascii bisect bz2 calendar cmath cmd code codecs codeop collections
collections.abc colorsys compileall concurrent.futures configparser contextlib contextvars copy copyreg csv
ctypes dataclasses datetime decimal difflib dis doctest email email.message email.utils enum errno faulthandler
fcntl filecmp fileinput fnmatch fractions ftplib functools gc getopt getpass gettext glob graphlib grp gzip
hashlib heapq hmac html html.parser http http.client http.cookies http.cookiejar http.server imaplib
importlib.metadata importlib.resources importlib.util inspect io ipaddress itertools json keyword linecache
locale logging logging.config logging.handlers lzma mailbox marshal math mimetypes mmap multiprocessing
multiprocessing.pool netrc numbers operator optparse os os.path pathlib pdb pickle pickletools pkgutil platform
plistlib poplib posixpath pprint profile pstats pty pwd py_compile pyclbr pydoc queue quopri random re reprlib
resource rlcompleter runpy sched secrets select selectors shelve shlex shutil signal smtplib socket socketserver
sqlite3 ssl stat statistics string stringprep struct subprocess symtable sys sysconfig syslog tabnanny tarfile
tempfile termios textwrap threading time timeit token tokenize trace traceback tracemalloc tty types typing
unicodedata unittest unittest.mock urllib.error urllib.parse urllib.request urllib.response urllib.robotparser
uuid venv warnings wave weakref webbrowser wsgiref.simple_server wsgiref.util xml.dom.minidom
xml.etree.ElementTree xml.sax xmlrpc.client xmlrpc.server zipapp zipfile zipimport zlib zoneinfo
"""

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
CALLABLE = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)


def signature(thing: object) -> str:
    """``(a, b=1)``, or nothing where Python cannot tell; annotations, addresses and places are left out."""
    try:
        found = inspect.signature(thing)  # type: ignore[arg-type]  # anything may be asked
        bare = [one.replace(annotation=inspect.Parameter.empty) for one in found.parameters.values()]
        text = str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    except (TypeError, ValueError, AttributeError, RecursionError):
        return ""
    # where Python lies is no documentation, and differs from one environment to the next
    text = ADDRESS.sub("", text).replace(sys.executable, "python").replace(sys.prefix, "prefix")
    return text if len(text) <= 300 else ""


def text_of(thing: object, name: str) -> str:
    """Signature and docstring; empty when there is no docstring of its own."""
    raw = getattr(thing, "__doc__", None)
    if not isinstance(raw, str) or not raw.strip():
        return ""
    head = f"{name}{signature(thing)}\n" if callable(thing) else ""
    return ADDRESS.sub("", head + inspect.cleandoc(raw)).encode("utf-8", "replace").decode()


def public(module: types.ModuleType) -> list[str]:
    """The names a module offers: ``__all__``, else those defined in it that begin with no underscore."""
    offered = getattr(module, "__all__", None)
    if offered is not None:
        return sorted({name for name in offered if isinstance(name, str)})
    own = (module.__name__, f"_{module.__name__}", None)
    return sorted(
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", "") in own and not inspect.ismodule(thing)
    )


def members(kind: type, prefix: str) -> list[tuple[str, str]]:
    """Public methods and properties a class itself defines."""
    found = []
    for name, thing in sorted(vars(kind).items()):
        inner = thing.__func__ if isinstance(thing, (staticmethod, classmethod)) else thing
        if not name.startswith("_") and isinstance(inner, (*CALLABLE, property)):
            found.append((f"{prefix}.{name}", text_of(inner, name)))
    return found


def documents() -> list[dict[str, str]]:
    """Every document once, by qualified name; what two names share is told under the first."""
    found: dict[str, str] = {}
    seen: set[int] = set()
    for module_name in ["builtins", *_NAMES.split()]:
        try:
            module = builtins if module_name == "builtins" else importlib.import_module(module_name)
        except Exception:  # not on this platform, or left out by whoever packaged this Python
            continue
        found.setdefault(module_name, text_of(module, module_name))
        prefix = "" if module is builtins else f"{module_name}."
        for name in [one for one in dir(builtins) if one[0] != "_"] if module is builtins else public(module):
            thing = getattr(module, name, None)
            if id(thing) in seen or not (isinstance(thing, (type, *CALLABLE))):
                continue
            seen.add(id(thing))
            found.setdefault(f"{prefix}{name}", text_of(thing, name))
            if isinstance(thing, type):
                for inner, text in members(thing, f"{prefix}{name}"):
                    found.setdefault(inner, text)
    return [{"id": name, "title": name, "text": text} for name, text in sorted(found.items()) if text]


def main() -> None:
    """Print every document, one JSON object per line, sorted by name."""
    warnings.simplefilter("ignore")  # deprecated modules are documented too
    for document in documents():
        sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
