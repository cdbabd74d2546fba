"""What jobs cost, from the files that Snakemake writes."""

from nuptse.costs import read_costs

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tcpu_time\n"


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "".join("\t".join(map(str, row)) + "\n" for row in rows))


def test_jobs_of_a_rule_add_up_and_memory_is_that_of_the_largest(tmp_path):
    write(tmp_path / "tar_shards/corpus_train/0.tsv", (2.5, "0:00:02", 100, 0, 2.0))
    write(tmp_path / "tar_shards/corpus_train/1.tsv", (3.5, "0:00:03", 300, 0, 4.0))
    (cost,), missing = read_costs(tmp_path, ["tar_shards"], ["corpus_train"])
    assert (cost.jobs, cost.seconds, cost.cpu_seconds, cost.peak_bytes) == (2, 6.0, 6.0, 300 * 2**20)
    assert missing == []


def test_repeats_in_one_file_add_up(tmp_path):
    write(tmp_path / "x/all.tsv", (1, "", 10, 0, 1), (2, "", 20, 0, 1))
    (cost,), _ = read_costs(tmp_path, ["x"], ["all"])
    assert (cost.jobs, cost.seconds) == (2, 3.0)


def test_rules_keep_their_order_and_those_without_a_record_are_named(tmp_path):
    for rule in "ab":
        write(tmp_path / rule / "all.tsv", (1, "", 10, 0, 1))
    found, missing = read_costs(tmp_path, ["b", "c", "a"], ["all"])
    assert [cost.rule for cost in found] == ["b", "a"]
    assert missing == ["c"]


def test_jobs_of_an_earlier_run_do_not_count(tmp_path):
    write(tmp_path / "finetune_model/gone.tsv", (100, "", 10, 0, 1))
    write(tmp_path / "finetune_model/here.tsv", (1, "", 10, 0, 1))
    (cost,), _ = read_costs(tmp_path, ["finetune_model"], ["here"])
    assert cost.seconds == 1.0


def test_a_job_too_short_to_be_measured(tmp_path):
    write(tmp_path / "x/all.tsv", (0.1, "", "NA", "NA", "NA"))
    (cost,), _ = read_costs(tmp_path, ["x"], ["all"])
    assert (cost.seconds, cost.cpu_seconds, cost.peak_bytes) == (0.1, None, None)
