require 'sinatra'
require 'digest'
require 'json'

enable :sessions
set :session_secret, 'no secret in a test ' * 4

LOADED_BY = $$
FORKS = []
STARTS = []

if defined?(Hatchery)
  Hatchery.before_fork { FORKS << $$ }
  Hatchery.on_start { |forked| STARTS << forked }
  Hatchery.on_stop { File.write("stopped-#{$$}", 'in good order') }
end

get('/') { 'Hello from Sinatra' }

get('/pid') { $$.to_s }

get('/hello/:name') { "Hello, #{params[:name]}" }

post('/form') { "#{params[:name]} wants #{params[:count]}" }

post '/upload' do
  file = params[:file]
  content = file[:tempfile].read
  "#{file[:filename]} #{content.bytesize} #{Digest::MD5.hexdigest(content)}"
end

get '/count' do
  session[:count] = session[:count].to_i + 1
  session[:count].to_s
end

get '/stream' do
  stream do |out|
    out << 'begun'
    sleep 0.005 until File.exist?(params[:until])
    out << ' done'
  end
end

# Where this worker comes from, once the file is there.
get '/wait' do
  sleep 0.005 until File.exist?(params[:until])
  content_type :json
  { pid: $$, loaded_by: LOADED_BY, forks: FORKS, starts: STARTS }.to_json
end

get('/raise') { raise ArgumentError, 'this went wrong' }

get('/teapot') { halt 418, 'short and stout' }

get('/away') { redirect to('/') }
