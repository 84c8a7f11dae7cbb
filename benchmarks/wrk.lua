-- Owns the requests that wrk sends, and the line of JSON by which it reports to `load.py`.
-- METHOD, HEADERS (lines) and BODIES (the name of a file whose lines are sent in turn) come from the environment:
-- arguments are seen by all.
local headers, bodies, turn = {}, {}, 0

for line in (os.getenv("HEADERS") or ""):gmatch("[^\n]+") do
  local name, value = line:match("^([^:]+): (.*)$")
  headers[name] = value
end
for line in io.lines(os.getenv("BODIES")) do
  bodies[#bodies + 1] = line
end

local requests = {}

function init(arguments)
  local method = os.getenv("METHOD") or "GET"
  for number = 1, math.max(1, #bodies) do
    requests[number] = wrk.format(method, nil, headers, bodies[number])
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "p50": %.1f, "p99": %.1f, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout
  ))
end
