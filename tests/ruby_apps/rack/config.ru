# Rack and nothing else, with its own judge between this and the server.

require 'digest'

class Pieces
  def initialize(path)
    @path = path
  end

  def each
    yield 'begun'
    sleep 0.005 until File.exist?(@path)
    yield ' done'
  end
end

class Echo
  KEY = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'.freeze

  def initialize(env)
    @key = env['HTTP_SEC_WEBSOCKET_KEY']
    @io = env['rack.hijack'].call
  end

  def run
    @io.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" \
              "Sec-WebSocket-Accept: #{Digest::SHA1.base64digest(@key + KEY)}\r\n\r\n")
    nil while echo
  ensure
    @io.close
  end

  private

  def echo
    kind, length = @io.read(2).to_s.bytes
    return false if kind.nil? || kind & 15 == 8
    mask = @io.read(4).bytes
    text = @io.read(length & 127).bytes.each_with_index.map { |byte, at| byte ^ mask[at % 4] }
    @io.write([kind, text.size, *text].pack('C*'))
    true
  end
end

def text(status, *parts)
  [status, { 'Content-Type' => 'text/plain' }, parts]
end

use Rack::Lint

run(lambda do |env|
  request = Rack::Request.new(env)
  case request.path_info
  when '/' then text(200, 'Hello from Rack')
  when '/pid' then text(200, $$.to_s)
  when '/form' then text(200, "#{request.params['name']} wants #{request.params['count']}")
  when '/body'
    digest = Digest::MD5.new
    size = 0
    while (piece = request.body.read(16_384))
      digest << piece
      size += piece.bytesize
    end
    text(200, "#{size} #{digest.hexdigest}")
  when '/stream' then [200, { 'Content-Type' => 'text/plain' }, Pieces.new(request.params['until'])]
  when '/raise' then raise 'this went wrong'
  when '/socket'
    Echo.new(env).run
    [101, {}, []]
  else text(404, 'nothing')
  end
end)
