"""COBRALite's ranking by hand, from the very heads that its loss trains."""

import torch
import torch.nn.functional as F
from semantic_ids import write_ids
from served import write_items
from small_data import small_config

from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.layers.blocks.packing import Packing
from recbole_hstu.training.preparation import build_model, provide_text


def test_cobra_ranks_by_what_it_was_trained_on(toy):
    """The score of an item is the fusion of the very heads that its loss trains, by hand."""
    write_items()
    write_ids()
    options = {"hidden_size": 16, "inner_size": 16, "item_text": {"fields": ["title"]}}
    config = small_config("COBRALite", **options, decode="exact", fusion_tau=1.7, fusion_psi=3.0)
    train, _, test = make_loaders(config, load_dataset(config))
    provide_text(config, train._dataset)
    model = build_model(config, train._dataset).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    batch = next(iter(test))[0]
    with torch.no_grad():
        scores = model.full_sort_predict(batch)
        for row in (0, 5):
            items = batch["item_id_list"][row, : batch["item_length"][row]].tolist()
            tokens = []
            for step, item in enumerate(items):
                pair = (
                    model.id_vectors[model.ids.of_item[item]],
                    model.projection(model.text[item]),
                )
                tokens += [v + model.positions[step] + model.kinds[k] for k, v in enumerate(pair)]
            last = model.decoder(torch.stack(tokens), Packing(torch.tensor([len(tokens)])))[-1]
            first = (1.7 * model.sparse_head(last).log_softmax(-1)).log_softmax(-1)
            for number in range(model.ids.n_ids):
                token = model.id_vectors[number] + model.positions[len(items)] + model.kinds[0]
                longer = torch.stack([*tokens, token])
                after = model.decoder(longer, Packing(torch.tensor([len(longer)])))[-1]
                text = F.normalize(model.text[items[-1]], dim=0) + model.dense_head(after)
                own = model.ids.items(number)
                cosine = F.normalize(model.text[own], dim=1) @ F.normalize(text, dim=0)
                expected = first[number] + (3.0 * cosine).log_softmax(0)
                torch.testing.assert_close(scores[row, own], expected, rtol=1e-4, atol=1e-4)
