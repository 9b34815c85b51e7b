"""The reader of checkpoints: what it loads, what it refuses, and what it leaves alone."""

import argparse
import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader, _load_checkpoint
from payload import Call, Payload

from mobileone_mm.utils import safe_pickle
from mobileone_mm.utils.checkpoint_files import (
    CheckpointError,
    NonFiniteWeightsError,
    check_finite,
    read_checkpoint,
    unwrap,
)
from mobileone_mm.utils.downloads import sha256_in_name


@pytest.fixture(params=['torch', 'ours', 'old torch'])
def protocol(request, monkeypatch):
    """Protocol 2 uses torch's unpickler and 4 ours, which torch before 2.6 needs for both."""
    monkeypatch.setattr(safe_pickle, 'KNOWS_EXCEPTIONS', request.param != 'old torch'
                        and safe_pickle.KNOWS_EXCEPTIONS)
    return 4 if request.param == 'ours' else 2


@pytest.fixture
def server(tmp_path):
    """A folder served over HTTP, and its address."""
    folder = tmp_path / 'served'
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=str(folder))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{http.server_address[1]}'
        http.shutdown()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))


def test_what_mmengine_logs_comes_back(protocol, tmp_path):
    buffer = HistoryBuffer([1.5, 2., 4.], [1, 1, 2], max_length=7)
    order = np.arange(6, dtype='>i2').reshape(2, 3).T
    torch.save(dict(state_dict=dict(a=torch.ones(2)), args=argparse.Namespace(lr=.1),
                    message_hub=dict(log_scalars=dict(loss=buffer),
                                     runtime_info=dict(best=np.float64(3.5), order=[order]))),
               tmp_path / 'x.pth', pickle_protocol=protocol)
    content = read_checkpoint(tmp_path / 'x.pth')
    hub = content['message_hub']
    read = hub['log_scalars']['loss']
    assert type(read) is HistoryBuffer and read.max_length == 7
    for array, expected in zip(read.data, buffer.data):
        assert type(array) is np.ndarray and array.tolist() == expected.tolist()
    assert read.mean() == buffer.mean() and read.statistics('min') == 1.5
    read.update(1)  # and it can continue
    assert type(hub['runtime_info']['best']) is np.float64 and hub['runtime_info']['best'] == 3.5
    assert hub['runtime_info']['order'][0].tolist() == order.tolist()
    assert content['args'].lr == .1
    torch.save(content, tmp_path / 'again.pth')  # without any of our classes
    assert b'mobileone_mm' not in (tmp_path / 'again.pth').read_bytes()


@pytest.mark.parametrize('as_zip', [True, False])
@pytest.mark.parametrize('number', range(2, 6))
def test_every_protocol_is_read(number, as_zip, tmp_path):
    values = dict(a=torch.arange(3), b=np.arange(3) if number < 5 else torch.arange(3))
    torch.save(values, tmp_path / 'x.pth', pickle_protocol=number,
               _use_new_zipfile_serialization=as_zip)
    for value in read_checkpoint(tmp_path / 'x.pth').values():
        assert value.tolist() == [0, 1, 2]


@pytest.mark.parametrize('name, call', [
    ('mkdir', lambda path: Payload(path)),
    ('eval', lambda path: Call(eval, f'__import__("os").mkdir({str(path)!r})')),
    ('getattr', lambda path: Call(getattr, HistoryBuffer, 'update')),
    ('getattr', lambda path: Call(getattr, argparse.Namespace, 'mean')),
    ('numpy.dtype', lambda path: Call(np.ndarray, (1, ), np.dtype('O'), 0, b'8 bytes.')),
    ('numpy.dtype', lambda path: np.array([{}])),
])
def test_other_objects_are_named_and_refused(protocol, name, call, tmp_path):
    torch.save(dict(state_dict=dict(a=torch.ones(1)), x=call(tmp_path / 'ran')),
               tmp_path / 'x.pth', pickle_protocol=protocol)
    with pytest.raises(CheckpointError, match=rf'pickled objects.*\(.*{name}\), which could run'):
        read_checkpoint(tmp_path / 'x.pth')
    assert not (tmp_path / 'ran').exists()


def test_an_array_over_raw_bytes_would_be_a_wild_pointer(tmp_path):
    """The fault that the test above prevents: what allowing numpy.ndarray would mean."""
    code = ('import numpy as np, sys; '
            "array = np.ndarray((1, ), np.dtype('O'), b'8 bytes.'); print(array[0])")
    done = subprocess.run([sys.executable, '-c', code], capture_output=True)
    assert done.returncode != 0


def write_opcodes(path, opcodes):
    """A file in torch's format without zip."""
    stream = io.BytesIO()
    for value in (0x1950a86a20f9469cfc6c, 1001, {}):
        pickle.dump(value, stream, protocol=2)
    path.write_bytes(stream.getvalue() + opcodes + pickle.dumps([], protocol=2))


@pytest.mark.parametrize('opcodes, name', [
    (b'\x80\x04\x8c\x05numpy\x8c\x0cndarray.mean\x93.', 'numpy.ndarray.mean'),
    (b'\x80\x04ccollections\nOrderedDict\n)R)R.', 'OrderedDict'),  # calls what is no function
])
def test_only_what_is_known_is_found_and_called(opcodes, name, tmp_path, monkeypatch):
    monkeypatch.setattr(safe_pickle, 'KNOWS_EXCEPTIONS', False)  # our unpickler
    write_opcodes(tmp_path / 'x.pth', opcodes)
    with pytest.raises(CheckpointError, match=rf'\({name}\), which could run code'):
        read_checkpoint(tmp_path / 'x.pth')


def test_text_of_python_2_is_utf_8(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_pickle, 'KNOWS_EXCEPTIONS', False)
    write_opcodes(tmp_path / 'x.pth', b'\x80\x04U\x02\xc3\xa9.')
    assert read_checkpoint(tmp_path / 'x.pth') == '\xe9'


@pytest.mark.parametrize('message, refused', [
    ('Unsupported global: GLOBAL os.mkdir was not an allowed global', 'os.mkdir'),
    ('Unsupported class numpy.ndarray', 'numpy.ndarray'),
    ('Can only build Tensor, Parameter or OrderedDict objects, but got A', 'an object'),
    ('Can only create new object for nn.Parameter', 'an object'),
    ('Trying to call reduce for unrecognized function eval', 'an object'),
    ('pickle data was truncated', None)])
def test_what_torch_refuses_in_its_words(message, refused):
    assert safe_pickle._refused_name(message) == refused


def test_functions_are_not_changed(protocol, tmp_path):
    """Pickle's BUILD with a state (None, {...}) sets attributes, of functions and classes too."""
    opcodes = (b'\x80' + bytes([protocol])
               + b'ctorch._utils\n_rebuild_tensor_v2\nN}X\x07\x00\x00\x00plantedNs\x86b.')
    function = torch._utils._rebuild_tensor_v2
    pickle.loads(opcodes)
    assert hasattr(function, 'planted')  # so the payload works
    del function.planted
    write_opcodes(tmp_path / 'x.pth', opcodes)
    with pytest.raises(CheckpointError, match='which could run code'):
        read_checkpoint(tmp_path / 'x.pth')
    assert not hasattr(function, 'planted')


def test_other_loads_of_the_process_stay_strict(tmp_path):
    torch.save(dict(x=np.zeros(3)), tmp_path / 'x.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'x.pth', weights_only=True)
    assert read_checkpoint(tmp_path / 'x.pth')['x'].tolist() == [0, 0, 0]
    with pytest.raises(pickle.UnpicklingError):  # also afterwards
        torch.load(tmp_path / 'x.pth', weights_only=True)


def test_mmengine_reads_with_it(tmp_path, server):
    folder, address = server
    torch.save(dict(state_dict={}, x=Payload(tmp_path / 'ran')), folder / 'x.pth')
    for name in (str(folder / 'x.pth'), f'{address}/x.pth'):
        with pytest.raises(CheckpointError, match='which could run code'):
            _load_checkpoint(name)
    assert not (tmp_path / 'ran').exists()
    torch.save(dict(state_dict=dict(a=torch.ones(1))), folder / 'y.pth')
    assert _load_checkpoint(f'{address}/y.pth', 'cpu')['state_dict']['a'] == 1
    for name in ('torchvision://resnet18', 'open-mmlab://x', 'mmcls://x', 's3://x/y.pth'):
        loader = CheckpointLoader._get_checkpoint_loader(name)
        assert loader.__module__.startswith(('mobileone_mm.', 'mmengine.runner.checkpoint'))


def test_schemes_that_are_names_of_urls(tmp_path, server, monkeypatch):
    folder, address = server
    torch.save(dict(state_dict={}, x=Payload(tmp_path / 'ran')), folder / 'x.pth')
    monkeypatch.setattr('mmengine.runner.checkpoint.get_external_models',
                        lambda: dict(net=f'{address}/x.pth'))
    with pytest.raises(CheckpointError, match='which could run code'):
        _load_checkpoint('open-mmlab://net')
    assert not (tmp_path / 'ran').exists()


def test_urls_of_the_same_name_do_not_collide(server):
    folder, address = server
    for i in (1, 2):
        (folder / str(i)).mkdir()
        torch.save(dict(a=torch.full((1, ), i)), folder / str(i) / 'x.pth')
    assert [int(read_checkpoint(f'{address}/{i}/x.pth')['a']) for i in (1, 2)] == [1, 2]
    torch.save(dict(a=torch.zeros(1)), folder / '1' / 'x.pth')
    assert read_checkpoint(f'{address}/1/x.pth')['a'] == 1  # kept
    assert read_checkpoint(f'{address}/1/x.pth?v=2')['a'] == 0  # another URL


def test_a_given_hash_is_checked(tmp_path, server):
    folder, address = server
    torch.save(dict(a=torch.ones(1)), folder / 'x.pth')
    data = (folder / 'x.pth').read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    for sha256 in (digest, digest[:8].upper(), None):
        assert read_checkpoint(folder / 'x.pth', sha256=sha256)
    wrong = f'{address}/net_20221110-{"0" * 7}a.pth'
    (folder / wrong.rsplit('/', 1)[1]).write_bytes(data)
    for name, sha256 in ((folder / 'x.pth', '0' * 64), (f'{address}/x.pth', '0' * 64),
                         (folder / wrong.rsplit('/', 1)[1], None), (wrong, None)):
        with pytest.raises(CheckpointError, match=f'SHA-256 sum is {digest}, expected'):
            read_checkpoint(name, sha256=sha256)
    right = f'net-{digest[:8]}.pth'
    (folder / right).write_bytes(data)
    assert read_checkpoint(folder / right) and read_checkpoint(f'{address}/{right}')
    (folder / wrong.rsplit('/', 1)[1]).unlink()  # and the refused download was not kept
    with pytest.raises(CheckpointError, match='could not read or download'):
        read_checkpoint(wrong)
    with pytest.raises(ValueError, match='8 to 64 hexadecimal'):
        read_checkpoint(folder / 'x.pth', sha256='abc')


@pytest.mark.parametrize('scheme', ['http', 'https'])
def test_a_server_that_does_not_answer(scheme):
    with pytest.raises(CheckpointError, match='could not read or download'):
        read_checkpoint(f'{scheme}://127.0.0.1:9/x.pth')


@pytest.mark.parametrize('name, expected', [
    ('mobileone-s0_8xb32_in1k_20221110-0bc94952.pth', '0bc94952'),
    ('https://x.org/a-0bc94952.pth?token=1', '0bc94952'),
    ('run-20221110.pth', None), ('epoch_1.pth', None), ('best-deadbeef_1.pth', None)])
def test_hashes_in_names(name, expected):
    assert sha256_in_name(name) == expected


def test_a_tar_archive_is_not_unpacked(tmp_path):
    with tarfile.open(tmp_path / 'x.pth', 'w') as archive:
        archive.addfile(tarfile.TarInfo('storages'))
    with pytest.raises(CheckpointError, match='is a tar archive'):
        read_checkpoint(tmp_path / 'x.pth')


def test_a_flipped_bit_in_a_weight_is_seen(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(state_dict=dict(w=torch.arange(1000.), v=torch.ones(3))), path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(1000.).numpy().tobytes()) + 2001] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)  # torch does not look
    with pytest.raises(CheckpointError, match='the checksum of a/data/0 is wrong'):
        read_checkpoint(path)


def test_a_record_that_is_marked_as_a_folder(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(w=torch.arange(1000.), v=torch.ones(3)), path)
    content = bytearray(path.read_bytes())
    content[content.rindex(b'a/data/0') - 8] ^= 0x10  # one bit of its attributes in the directory
    path.write_bytes(content)
    # torch.load would return what happens to be in memory.
    with pytest.raises(CheckpointError, match='the checksum of a/data/0 is wrong'):
        read_checkpoint(path)


@pytest.mark.skipif(not hasattr(torch.serialization, 'set_crc32_options'), reason='old torch')
def test_checksums_may_be_left_out(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(dict(w=torch.arange(1000.), v=torch.ones(3)), tmp_path / 'a.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint(tmp_path / 'a.pth')['w'].sum() == 499500


def test_two_names_that_become_one():
    with pytest.raises(CheckpointError, match='x.pth holds a twice, once as module.a'):
        unwrap(dict(model={'a': torch.ones(1), 'module.a': torch.ones(1)}), 'x.pth')


def test_wrappers_add_to_the_names():
    names = ('_orig_mod.a', 'module.module.b', 'module._orig_mod.c', 'my_module.d', 'n_averaged')
    assert list(unwrap({name: torch.ones(1) for name in names})) == ['a', 'b', 'c', 'my_module.d']


@pytest.mark.parametrize('keys', [
    ('state_dict_ema', 'state_dict'),  # timm's
    ('state_dict', 'ema_state_dict'),  # mmengine's, which has the weights before averaging
    ('ema_state_dict', 'model_state_dict'),  # cvnets', which has the averaged ones
    ('model_ema', 'model', 'epoch')])
def test_averaged_weights_come_first(keys):
    content = {key: dict(w=torch.tensor(i)) for i, key in enumerate(keys)}
    for order in (keys, keys[::-1]):
        assert unwrap({key: content[key] for key in order}) == dict(w=torch.tensor(0))


def test_a_checkpoint_without_weights_is_described():
    with pytest.raises(CheckpointError, match='^x.pth holds no state dict: .* its keys: epoch'):
        unwrap(dict(state_dict=dict(epoch=1)), 'x.pth')
    with pytest.raises(CheckpointError, match='^the checkpoint holds no state dict but a int'):
        unwrap(3)


@pytest.mark.parametrize('value, kind', [(float('nan'), 'NaN'), (float('-inf'), 'infinite')])
def test_weights_of_a_diverged_training(value, kind):
    weights = dict(a=torch.ones(2), b=torch.tensor([0, value]), c=torch.tensor([value]),
                   n=torch.tensor(1))
    text = f'^x.pth: the weights are {kind}, b first \\(2 of 3 tensors\\)'
    with pytest.raises(NonFiniteWeightsError, match=text):
        check_finite(weights, 'x.pth')
    with pytest.raises(NonFiniteWeightsError, match='^the checkpoint: '):
        check_finite(weights)
    with pytest.raises(NonFiniteWeightsError, match=f'{kind}, c first \\(1 of 1'):
        check_finite(dict(c=weights['c']))
    check_finite(dict(a=torch.ones(2)))
    check_finite(dict(n=torch.tensor(1)))
