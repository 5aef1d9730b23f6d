"""The 8 artefact attacks, on whoever reads or removes what a program left, and the 6 leaks from one run to the next."""

from __future__ import annotations

from attacks import Attack

_PLACES = "for place in (SCRATCH, '.', '/tmp', '/dev/shm'):\n  try:\n    "
_REST = "\n  except OSError: pass"
_MACHINE_CODE = """
import mmap
code = bytes.fromhex('b829000000bf02000000be0100000031d20f05c3' if X86 else
                     'c81880d2400080d2210080d2020080d2010000d4c0035fd6')
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
number = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
if number >= 0: proof()
"""

# nothing a program writes survives it, so each is an attempt to leave something at all; the scene looks for it
_ARTEFACTS = {
    "fifo_artefact": ("host", _PLACES + "os.mkfifo(place + '/' + TAG)" + _REST),
    "symlink_artefact": ("host", _PLACES + "os.symlink(SECRET, place + '/' + TAG)" + _REST),
    "deep_tree_cleanup": (
        "host",
        _PLACES + "os.makedirs(place + '/' + TAG)\n    os.chdir(place + '/' + TAG)\n"
        "    for _ in range(300): os.mkdir('d' * 200); os.chdir('d' * 200)" + _REST,
    ),
    "undeletable_dir": (
        "host",
        _PLACES + "os.makedirs(place + '/' + TAG + '/in'); os.chmod(place + '/' + TAG, 0)" + _REST,
    ),
    "weird_names": (
        "host",
        _PLACES + "os.mkdir(place + '/' + TAG); open(os.fsencode(place + '/' + TAG) + b'/\\xff\\n -rf', 'w')" + _REST,
    ),
    "module_shadowing": (
        "host",
        _PLACES + "open(place + '/json.py', 'w').write('print(1)')" + _REST,
    ),
    "surrogate_output": (
        "unstorable",
        "os.write(1, b'\\xed\\xa0\\x80\\x00\\xff\\xfe'); os.write(2, b'\\xed\\xa0\\x80\\x00')",
    ),
    "wx_machine_code": ("proof", _MACHINE_CODE),
}
ARTEFACTS = {name: Attack(name, "artefact", seen, source) for name, (seen, source) in _ARTEFACTS.items()}

# what the first program does, and the second that proves it saw it
LEAKS = {
    "builtins_patched": (
        "import builtins; builtins.leaked = 1; builtins.print = None",
        "import builtins\nif hasattr(builtins, 'leaked') or builtins.print is None: proof()",
    ),
    "sys_modules_poisoned": (
        "import types, json; sys.modules['leaked'] = types.ModuleType('leaked'); json.dumps = None",
        "import json\nif 'leaked' in sys.modules or json.dumps is None: proof()",
    ),
    "file_left": (
        "for place in (SCRATCH, '.', '/', '/tmp', '/dev/shm'):\n  try: open(place + '/' + TAG, 'w').write('x')\n"
        "  except OSError: pass",
        "for place in (SCRATCH, '.', '/', '/tmp', '/dev/shm'):\n  if os.path.exists(place + '/' + TAG): proof()",
    ),
    "environ_entry_left": (
        "os.environ['LEAKED'] = '1'; libc.setenv(b'LEAKED', b'1', 1)",
        "libc.getenv.restype = ctypes.c_char_p\nif 'LEAKED' in os.environ or libc.getenv(b'LEAKED'): proof()",
    ),
    "earlier_source_found": (
        "marked = 'left' + 'behind' * 3",
        "import gc\nwanted = 'left' + 'behind' * 3\nfor thing in gc.get_objects():\n"
        "  if type(thing) is dict and 'marked' in thing and thing['marked'] == wanted: proof()\n"
        "for n in range(5, 256):\n  try:\n    if b'marked' in os.pread(n, 1 << 16, 0): proof()\n  except OSError: pass",
    ),
    "earlier_result_channel": (
        "for n in range(256):\n  try: os.write(n, b'leaked')\n  except OSError: pass",
        "import select\nfor n in range(3, 256):\n  try:\n    os.set_blocking(n, False)\n"
        "    if b'leaked' in os.read(n, 1 << 16): proof()\n  except OSError: pass\n"
        "if b'leaked' in sys.stdin.buffer.read(): proof()",
    ),
}
