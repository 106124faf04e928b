# One run in a line for the person who waits.

def shown: if . == null then "-" else tostring end;

"   " +
([ "relayed/s \(.relayed_per_s | shown)", "accepted/s \(.accepted_per_s | shown)",
   "CPU s/1000 \(.cpu_s_per_1000 | shown)", "PSS MiB \(.pss_max_mib | shown)",
   "lost \(.lost | shown)", "damaged \(.damaged | shown)", "duplicated \(.duplicated | shown)" ]
 | join(", ")) +
(if .problem then "\n   FAILED: \(.problem)" else "" end)
