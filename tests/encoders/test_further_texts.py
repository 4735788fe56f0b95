"""New texts are encoded by what encoded those of the file."""

import shutil

import numpy as np
import pytest
from embeddings_server import config as openai_config
from embeddings_server import vector
from text_files import texts_of, write_items

from recbole_hstu.data.files.side_feature_file import read_text_features, write_text_features
from recbole_hstu.encoders import ensure_text_features
from recbole_hstu.encoders.further_texts import FurtherTexts
from recbole_hstu.support.errors import InputError

ITEM_TEXT = {"fields": ["title"]}
TEXTS = texts_of(6)


def huggingface(folder, **options):
    return {
        **{"text_encoder": "huggingface", "text_model": str(folder), "text_device": "cpu"},
        **{"item_text": ITEM_TEXT, "show_progress": False, **options},
    }


def sentences(texts):
    return [f"{text}." for text in texts]


@pytest.mark.parametrize("options", [{}, {"text_normalize": True, "text_storage_dtype": "float16"}])
def test_a_model_in_a_folder(tiny_roberta, tmp_path, options):
    pytest.importorskip("transformers")
    settings = huggingface(tiny_roberta, **options)
    path = ensure_text_features("toy", write_items(tmp_path / "toy", TEXTS), settings)
    found = FurtherTexts(path, settings).encode(sentences(TEXTS))
    np.testing.assert_array_equal(found, read_text_features(path).vectors.astype(np.float32))


def test_another_model_is_noticed(tiny_roberta, tmp_path):
    pytest.importorskip("transformers")
    model = shutil.copytree(tiny_roberta, tmp_path / "tiny-roberta")
    path = ensure_text_features("toy", write_items(tmp_path / "toy", TEXTS), huggingface(model))
    (model / "more.json").write_text("{}")
    with pytest.raises(InputError, match=r"was made by tiny-roberta of revision .* and here is"):
        FurtherTexts(path, huggingface(model)).encode(["a"])


def test_the_api_is_asked_as_before(server, tmp_path):
    settings = openai_config(server)
    path = ensure_text_features("toy", write_items(tmp_path / "toy", TEXTS), settings)
    (found,) = FurtherTexts(path, settings).encode(["something new."])
    np.testing.assert_array_equal(found, vector("something new."))
    assert server.paid[-1] == "something new."


def test_vectors_from_elsewhere_say_so(tmp_path):
    path = tmp_path / "mine.safetensors"
    write_text_features(path, {"i0": "a"}, np.ones((1, 3)), {"encoder": "mine"})
    with pytest.raises(InputError, match="does not say which encoder made its vectors; give"):
        FurtherTexts(path, {})


def test_a_file_without_the_fit_says_what_to_do(tmp_path):
    settings = {"text_encoder": "lsa", "text_dimensions": 3, "item_text": ITEM_TEXT}
    path = ensure_text_features("toy", write_items(tmp_path / "toy", TEXTS), settings)
    features = read_text_features(path)
    texts = dict(zip(features.tokens, sentences(TEXTS), strict=True))
    write_text_features(path, texts, features.vectors, features.provenance)
    with pytest.raises(InputError, match="did not keep lsa's fit; delete it and make it anew"):
        FurtherTexts(path, settings).encode(["a"])
