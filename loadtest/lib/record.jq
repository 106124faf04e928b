# One run: the figures from what was noted. Arguments as record_run gives them.

def rounded(digits): if . == null then null
  else (pow(10; digits)) as $f | (. * $f | round) / $f end;

# The sink stays this long after the last arrival, to see duplicates.
250 as $settle_ms
| (if $relays == "yes" then $sink_end else $load_end end) as $finish
| (if $relays == "yes" then $sink.distinct else $load.accepted end) as $done
| {
    server: $server, scenario: $scenario, round: $round,
    messages: $messages, bytes: $bytes,
    accepted: $load.accepted, failed: $load.failed,
    received: $sink.received, distinct: $sink.distinct,
    lost: $sink.lost, damaged: $sink.damaged, duplicated: $sink.duplicated,
    relayed_per_s:
      (if $relays != "yes" or $done == null or $start == null or $sink_end == null then null
       else $done * 1000 / ($sink_end[0] - $settle_ms - $start[0]) | rounded(1) end),
    accepted_per_s: ($load.accepted_per_second | rounded(1)),
    cpu_s_per_1000:
      (if $start == null or $finish == null or ($done // 0) == 0 then null
       else ($finish[1] - $start[1]) / 1000 / $done | rounded(4) end),
    pss_max_mib: (if ($pss | length) == 0 then null else ($pss | max) / 1024 | rounded(1) end),
    pss_mean_mib:
      (if ($pss | length) == 0 then null else ($pss | add / length) / 1024 | rounded(1) end),
    p50_ms: ($load.latency_p50_ms | rounded(1)), p99_ms: ($load.latency_p99_ms | rounded(1)),
    pss_kib: $pss,
    stamps: {start: $start, load_end: $load_end, sink_end: $sink_end},
    load: $load, sink: $sink
  }
| .problem =
    (if (.damaged // 0) > 0 then "\(.damaged) damaged"
     elif $problem != "" then $problem
     elif (.failed // 0) > 0 then "\(.failed) not accepted"
     elif (.lost // 0) > 0 then "\(.lost) lost"
     elif .cpu_s_per_1000 == null then "no figures"
     else null end)
