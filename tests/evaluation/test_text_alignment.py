import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from onestep.evaluation.text_alignment import TextAlignment, TextModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP model of a few thousand random weights, in the layout of the real ones."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

    words = ["<pad>", "<start>", "<end>", "<unk>", "red", "blue", "circle", "square", "on", "teal"]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    out = tmp_path_factory.mktemp("clip")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<start>", eos_token="<end>", unk_token="<unk>"
    ).save_pretrained(out)
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = tower | {"vocab_size": len(words), "max_position_embeddings": 8, "eos_token_id": 2, "bos_token_id": 1}
    vision = tower | {"image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(out)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(out)
    return out


def test_the_score_is_the_mean_cosine_of_frames_and_caption(folder):
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 40, 40, 3), dtype=np.uint8)
    captions = ["red circle on teal", "blue square"]
    found = TextAlignment(str(folder)).score(frames, captions)
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    pixels = CLIPImageProcessor.from_pretrained(folder)(list(frames[1]), return_tensors="pt").pixel_values
    tokens = tokenizer([captions[1]], return_tensors="pt")
    with torch.no_grad():
        output = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=pixels)
    expected = (output.image_embeds @ output.text_embeds.T).mean().item()
    assert found.shape == (2,) and found[1] == pytest.approx(expected, abs=1e-5)


def test_the_model_may_lie_behind_a_url(folder):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(f"{folder}/", "/clip-model/", recursive=True)
    frames = np.random.default_rng(0).integers(0, 256, (1, 2, 32, 32, 3), dtype=np.uint8)
    there, here = (TextAlignment(url).score(frames, ["red circle"]) for url in ("memory://clip-model", str(folder)))
    assert there == pytest.approx(here)


def test_another_folder_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(TextModelError, match=str(tmp_path)):
        TextAlignment(str(tmp_path))
