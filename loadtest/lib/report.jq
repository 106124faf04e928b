# All runs: medians per scenario and server, ratios per scenario and metric.

def median:
  map(select(. != null)) | sort | length as $n
  | if $n == 0 then null
    elif $n % 2 == 1 then .[($n - 1) / 2]
    else (.[$n / 2 - 1] + .[$n / 2]) / 2 end;
def unique_by_order: reduce .[] as $item ([]; if index($item) then . else . + [$item] end);
def sum_of($key): map(.[$key] // 0) | add;

# name in the ratio lines, figure, does more mean better?
def metrics:
  ["relayed", "relayed_per_s", true], ["accepted", "accepted_per_s", true],
  ["cpu", "cpu_s_per_1000", false], ["memory", "pss_max_mib", false];

def medians:
  map("\(.scenario) \(.server)") as $order
  | group_by([.scenario, .server])
  | sort_by(.[0] as $run | $order | index("\($run.scenario) \($run.server)"))
  | map({
      scenario: .[0].scenario, server: .[0].server, runs: length
    } + (map(select(.problem == null)) as $clean
      | ["relayed_per_s", "accepted_per_s", "cpu_s_per_1000", "pss_max_mib", "pss_mean_mib",
         "p50_ms", "p99_ms"]
      | map({(.): (. as $key | $clean | map(.[$key]) | median)}) | add)
    + {lost: sum_of("lost"), damaged: sum_of("damaged"), duplicated: sum_of("duplicated"),
       failed_runs: map(select(.problem != null)) | length});

def ratios:
  (map(.scenario) | unique_by_order)[] as $scenario
  | map(select(.scenario == $scenario)) as $rows
  | metrics as [$metric, $key, $more]
  | ($rows | map(select(.server == "barid") | .[$key]) | first) as $barid
  | ($rows | map(select(.server | startswith("postfix")) | .[$key] | select(. != null))) as $postfix
  | select($barid != null and $barid > 0 and ($postfix | length) > 0)
  | {scenario: $scenario, metric: $metric,
     value: ((if $more then $barid / ($postfix | max) else ($postfix | min) / $barid end)
             * 100 | round / 100)};

. as $runs
| ($runs | medians) as $medians
| {machine: {kernel: $kernel, cpus: $cpus, cgroup: $cgroup},
   versions: {postfix: $postfix, barid: $barid},
   medians: $medians, ratios: [$medians | ratios], runs: $runs}
