# `gem install rack` (Debian: apt install ruby-rack), then: hatchery serve examples/apps/rack

# Once in each worker, before it serves; what was opened before a fork must be opened anew here.
Hatchery.on_start { |forked| warn "process #{$$} was #{forked ? 'forked' : 'started'}" } if defined?(Hatchery)

run(lambda do |env|
  at = env['PATH_INFO'] + (env['QUERY_STRING'].empty? ? '' : "?#{env['QUERY_STRING']}")
  [200, { 'content-type' => 'text/plain' }, ["Hello from Rack, process #{$$}, at #{at}\n"]]
end)
