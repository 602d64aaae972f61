# From what the app returns to an HTTP/1.1 answer.
module HatcheryLoader
  # An answer of the app that can't be sent.
  class BadAnswer < StandardError; end

  # What a body that is called gets to write to and read from; the answer's end is shown by its last chunk.
  class Stream
    def initialize(io, input, chunked)
      @io, @input, @chunked = io, input, chunked
      @open = true
    end

    def write(*parts)
      raise IOError, 'the stream is closed' unless @open
      parts.sum do |part|
        part = part.to_s
        next 0 if part.empty?
        @chunked ? @io.write("#{part.bytesize.to_s(16)}\r\n", part, "\r\n") : @io.write(part)
        part.bytesize
      end
    end

    def <<(part)
      write(part)
      self
    end

    def read(*arguments)
      @input.read(*arguments)
    end

    def flush
      self
    end

    def close_read
      nil
    end

    def close_write
      close
    end

    def close
      return unless @open
      @open = false
      @io.write("0\r\n\r\n") if @chunked
      @io.close
      nil
    end

    # Without the last chunk, so that the answer is visibly incomplete.
    def abandon
      @open = false
      @io.close
    end

    def closed?
      !@open
    end
  end

  class Answer
    NAME = /\A[!#$%&'*+\-.^_`|~0-9A-Za-z]+\z/.freeze
    CONTROL = /[\x00-\x08\x0a-\x1f\x7f]/n.freeze
    # Which headers mean something to this loader, by their name in small letters.
    SPECIAL = {
      'content-length' => :length, 'connection' => :connection, 'rack.hijack' => :hijack, 'status' => :internal,
      'keep-alive' => :hop, 'proxy-connection' => :hop, 'te' => :hop, 'trailer' => :hop,
      'transfer-encoding' => :hop, 'upgrade' => :hop
    }.freeze
    # So many names are remembered; an app that invents more pays for them each time.
    MOST_NAMES = 500
    # A body in one piece up to this size is written together with the headers.
    SMALL_FILE = 65_536

    @kinds = {}
    @lines = {}

    class << self
      def kind(name)
        @kinds[name] || judge(name)
      end

      def line(status)
        @lines[status] ||= begin
          reason = Rack::Utils::HTTP_STATUS_CODES[status]
          "HTTP/1.1 #{status} #{reason}\r\n".b.freeze
        end
      end

      private

      def judge(name)
        small = name.downcase
        kind = SPECIAL[small] || (small.start_with?('rack.') ? :internal : :plain)
        raise BadAnswer, "a header can't be named #{name.inspect}" unless NAME.match?(name.b)
        @kinds[name.dup.freeze] = kind if @kinds.size < MOST_NAMES
        kind
      end
    end

    # Whether anything has been sent.
    attr_reader :begun

    def initialize(connection, env, input)
      @io = connection.io
      @connection = connection
      @env = env
      @input = input
      @begun = false
      @keep = true
      @no_body = env['REQUEST_METHOD'] == 'HEAD'
    end

    # Sends it all. What becomes of the connection: `:keep`, `:close`, or `:taken` by the app.
    def send(status, headers, body)
      @status = status.to_i
      raise BadAnswer, "#{status.inspect} is no status" unless @status.between?(100, 999)
      @upgrade = @status == 101
      @informs = @status < 200
      @entity = !(@informs || @status == 204 || @status == 304)
      @no_body ||= !@entity
      @head = String.new(self.class.line(@status), capacity: 512)
      @length = @hijack = nil
      headers.each { |name, value| header(name, value) }
      return hand_over { @hijack.call(@connection.give_back) } if @hijack
      return stream(body) if !body.respond_to?(:each) && body.respond_to?(:call)
      @keep = false if @informs
      @no_body ? without_body : with_body(body)
      @keep ? :keep : :close
    end

    private

    def header(name, value)
      name = name.to_s unless name.is_a?(String)
      case self.class.kind(name)
      when :plain then put(name, value)
      when :length then declared(value)
      when :connection
        put(name, value) if @upgrade
        @keep = false if value.to_s.downcase.include?('close')
      when :hop then put(name, value) if @upgrade && name.casecmp?('upgrade')
      when :hijack then @hijack = value
      end
    end

    def declared(value)
      value = value.first if value.is_a?(Array)
      raise BadAnswer, "the Content-Length #{value.inspect} is no number" unless value.to_s.match?(/\A\d{1,18}\z/)
      @length = value.to_i
    end

    def put(name, value)
      if value.is_a?(Array)
        value.each { |each| put(name, each) }
      elsif (value = value.to_s).include?("\n")
        value.split("\n").each { |each| put_one(name, each) }
      else
        put_one(name, value)
      end
    end

    def put_one(name, value)
      value = value.b unless value.ascii_only?
      raise BadAnswer, "the header #{name} has a control character in its value" if CONTROL.match?(value)
      @head << name << ': ' << value << "\r\n"
    end

    def write(*parts)
      @begun = true
      @io.write(*parts)
    rescue Errno::EPIPE, Errno::ECONNRESET => error
      # Not the app's own error, though it may pass through the app.
      raise ClientGone, error.message
    end

    def without_body
      # What would be there tells its length; what can't have a body has none.
      @head << "Content-Length: #{@length}\r\n" if @length && (@entity || @status == 304)
      write(finish_head)
    end

    def finish_head
      @head << "Connection: close\r\n" unless @keep || @upgrade
      @head << "\r\n"
    end

    def with_body(body)
      if body.respond_to?(:to_ary) && (parts = body.to_ary)
        in_parts(parts)
      elsif body.respond_to?(:to_path) && (file = open_file(body.to_path))
        begin
          in_file(file)
        ensure
          file.close
        end
      else
        one_by_one(body)
      end
    end

    def in_parts(parts)
      size = parts.sum(&:bytesize)
      if @length && @length != size
        one_by_one(parts)
      else
        @head << "Content-Length: #{size}\r\n"
        write(finish_head, *parts)
      end
    end

    def open_file(path)
      file = File.open(path, 'rb')
      # Of a part of a file only `each` knows which.
      return file if file.stat.file? && (@length.nil? || @length == file.size)
      file.close
      nil
    rescue SystemCallError
      nil # Then `each` has to tell.
    end

    def in_file(file)
      size = file.size
      @head << "Content-Length: #{size}\r\n"
      return write(finish_head, file.read(size).to_s) && short_of(size, file.pos) if size <= SMALL_FILE
      write(finish_head)
      short_of(size, copy(file, size))
    end

    def copy(file, size)
      IO.copy_stream(file, @io, size)
    rescue Errno::EPIPE, Errno::ECONNRESET => error
      raise ClientGone, error.message
    end

    def short_of(size, sent)
      return if size == sent
      @keep = false
      warn "hatchery: #{@env['REQUEST_METHOD']} #{@env['REQUEST_URI']}: a file became shorter while it was sent"
    end

    # The headers go with the first piece: an exception before it can still be answered.
    def one_by_one(body)
      return by_length(body) if @length
      chunked = @env['SERVER_PROTOCOL'] != 'HTTP/1.0'
      chunked ? @head << "Transfer-Encoding: chunked\r\n" : @keep = false
      head = finish_head
      body.each do |part|
        size = part.bytesize
        next if size.zero?
        if chunked
          write("#{head}#{size.to_s(16)}\r\n", part, "\r\n")
        else
          write(head, part)
        end
        head = ''
      end
      write(chunked ? "#{head}0\r\n\r\n" : head)
    end

    def by_length(body)
      @head << "Content-Length: #{@length}\r\n"
      head = finish_head
      left = @length
      body.each do |part|
        size = part.bytesize
        part = part.byteslice(0, left) if size > left
        write(head, part) unless part.empty?
        head = '' unless part.empty?
        left -= size
      end
      write(head) unless head.empty?
      return if left.zero?
      @keep = false
      warn "hatchery: #{@env['REQUEST_METHOD']} #{@env['REQUEST_URI']}: the body has #{@length - left} bytes, " \
           "but its Content-Length says #{@length}"
    end

    # A connection that is the app's from now on; where its end can't be told otherwise, its closing tells.
    def hand_over
      @keep = false
      @head << "Content-Length: #{@length}\r\n" if @length
      write(finish_head)
      begin
        yield
      rescue SignalException
        raise
      rescue Exception
        @connection.close
        raise
      end
      :taken
    end

    def stream(body)
      @keep = false
      return hand_over { body.call(@connection.give_back) } if @upgrade
      return without_body && :close if @no_body
      chunked = @length.nil? && @env['SERVER_PROTOCOL'] != 'HTTP/1.0'
      @head << "Transfer-Encoding: chunked\r\n" if chunked
      stream = Stream.new(@io, @input, chunked)
      hand_over do
        begin
          body.call(stream)
        rescue Exception
          stream.abandon
          raise
        end
      end
    end
  end
end
