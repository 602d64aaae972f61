# `gem install sinatra` (Debian: apt install ruby-sinatra), then: hatchery serve examples/apps/sinatra
require 'sinatra'

get '/*' do
  content_type 'text/plain'
  "Hello from Sinatra, process #{$$}, at #{request.fullpath}\n"
end
